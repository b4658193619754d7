"""Trained networks as ONNX programs, by the package jax2onnx (`pip install 'jdarts[onnx]'`)."""

import contextlib
import importlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jdarts.errors import InputError, one_line
from jdarts.trained.network import TrainedNetwork
from jdarts.trained.network_file import write_content
from jdarts.xla.plain import in_operations_of_jax

#: The number of images in the shapes of a program.
IMAGES = "B"
#: The platform whose forms are convolutions, which an ONNX program has as one node each.
_CONVOLUTIONS = "tpu"


def save_onnx(trained: TrainedNetwork, path: Path) -> None:
    """Writes a network as an ONNX program: a function from any number of images, uint8 `[B, H, W, C]`, to logits `[B, classes]`.

    Weights and normalisation are part of the program.

    Raises:
      InputError: jax2onnx is not installed, an operation of the network has no ONNX form, or the file cannot be written.
    """
    try:
        to_onnx: Any = importlib.import_module("jax2onnx").to_onnx
    except ImportError as error:
        raise InputError(
            f"ONNX files need the package jax2onnx ({error}); install it: pip install 'jdarts[onnx]'"
        ) from None
    (count,) = jax.export.symbolic_shape(IMAGES)
    images = jax.ShapeDtypeStruct((count, *trained.images.shape), jnp.uint8)
    function = in_operations_of_jax(trained.logits, platform=_CONVOLUTIONS, replaced={lax.pad_p: padded})
    try:
        with _without_warnings():
            model = to_onnx(
                function, inputs=[images], model_name="network", input_names=["images"], output_names=["logits"]
            )
    except (NotImplementedError, ValueError, TypeError, LookupError) as error:
        raise InputError(f"jax2onnx cannot convert this network ({one_line(error)}); give a .stablehlo file") from error
    properties = model.metadata_props.add()
    properties.key, properties.value = "class_names", ", ".join(trained.images.class_names)
    write_content(path, model.SerializeToString())


def padded(array: jax.Array, value: jax.Array, *, padding_config: Sequence[tuple[int, int, int]]) -> jax.Array:
    """`lax.pad` as concatenations and slices: jax2onnx 0.17 cannot leave a number open in the shape of a padded array.

    Raises:
      ValueError: a padding within the array.
    """
    for axis, (low, high, inner) in enumerate(padding_config):
        if inner:
            raise ValueError(f"a padding of {low}, {high}, {inner}")
        if min(low, high) < 0:
            array = lax.slice_in_dim(array, max(-low, 0), array.shape[axis] - max(-high, 0), axis=axis)
        sides = [
            jnp.broadcast_to(value, (*array.shape[:axis], max(size, 0), *array.shape[axis + 1 :]))
            for size in (low, high)
        ]
        parts = [part for part in (sides[0], array, sides[1]) if part.shape[axis]]
        array = parts[0] if len(parts) == 1 else lax.concatenate(parts, axis)
    return array


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Hides the converter's warnings, one for each shape of which it does not know the type and that it leaves out."""
    logger = logging.getLogger("onnx_ir")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
