"""Trained networks as files of PyTorch, with the names and layouts of the reference implementation."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jdarts.files.safetensors import safetensors_bytes
from jdarts.nets.reference_names import discrete_entries
from jdarts.trained.network import TrainedNetwork
from jdarts.trained.network_file import write_content
from jdarts.trained.torch_writing import torch_bytes


def state_dict(trained: TrainedNetwork) -> dict[str, np.ndarray]:
    """The arrays of the reference implementation's network, float32 or float64, by their names there.

    That network reads normalised images `[B, C, H, W]`. It has no auxiliary head.

    Raises:
      InputError: the genotype has an operation that the reference implementation has no weights of.
    """
    arrays: dict[str, np.ndarray] = {}
    for entry in discrete_entries(trained.network):
        value: Any = trained.variables
        for name in entry.path:
            value = value[name]
        value = np.asarray(value)
        value = value if value.dtype == np.float64 else value.astype(np.float32)
        for name, part in zip(entry.names, value if entry.stacked else [value]):
            arrays[name] = np.ascontiguousarray(entry.layout.restore(part))
    return arrays


def save_torch(trained: TrainedNetwork, path: Path) -> None:
    """Writes `state_dict` for `torch.load`.

    Raises:
      InputError: as for `state_dict`, or the file cannot be written.
    """
    write_content(path, torch_bytes(state_dict(trained)))


def save_safetensors(trained: TrainedNetwork, path: Path) -> None:
    """Writes `state_dict` in the `safetensors` format, with genotype, size and image format as metadata.

    Raises:
      InputError: as for `state_dict`, or the file cannot be written.
    """
    network, images = trained.network, trained.images
    metadata = {
        "format": "pt",
        "genotype": str(network.genotype),
        "network": network.stem,
        "channels": str(network.channels),
        "cells": str(network.cells),
        "class_names": json.dumps(images.class_names),
        "image_shape": json.dumps(images.shape),
        "mean": json.dumps(images.mean),
        "std": json.dumps(images.std),
    }
    write_content(path, safetensors_bytes(state_dict(trained), metadata))
