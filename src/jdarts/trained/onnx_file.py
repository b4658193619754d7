"""Trained networks as ONNX programs, by the package jax2onnx (`pip install 'jdarts[onnx]'`)."""

import importlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jdarts.errors import InputError, one_line
from jdarts.trained.network import TrainedNetwork
from jdarts.trained.network_file import write_content
from jdarts.xla.plain import in_operations_of_jax


def save_onnx(trained: TrainedNetwork, path: Path) -> None:
    """Writes a network as an ONNX program: a function from one image, uint8 `[1, H, W, C]`, to logits `[1, classes]`.

    Weights and normalisation are part of the program. The number of images is fixed, since jax2onnx cannot leave it open in
    paddings.

    Raises:
      InputError: jax2onnx is not installed, an operation of the network has no ONNX form, or the file cannot be written.
    """
    try:
        to_onnx: Any = importlib.import_module("jax2onnx").to_onnx
    except ImportError as error:
        raise InputError(
            f"ONNX files need the package jax2onnx ({error}); install it: pip install 'jdarts[onnx]'"
        ) from None
    image = jax.ShapeDtypeStruct((1, *trained.images.shape), jnp.uint8)
    try:
        model = to_onnx(in_operations_of_jax(trained.logits), inputs=[image], model_name="network")
    except (NotImplementedError, ValueError, TypeError, LookupError) as error:
        raise InputError(f"jax2onnx cannot convert this network ({one_line(error)}); give a .stablehlo file") from error
    properties = model.metadata_props.add()
    properties.key, properties.value = "class_names", ", ".join(trained.images.class_names)
    write_content(path, model.SerializeToString())
