"""Files of trained networks: arrays with a description (`.npz`), or a program with one (`.stablehlo`)."""

import dataclasses
import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.errors import InputError, shortened
from jdarts.files.arrays import StoredArray, read_arrays
from jdarts.files.atomic import replace_bytes
from jdarts.nets.discrete import DiscreteNetwork, init_shapes
from jdarts.trained.network import ImageFormat, TrainedNetwork, build_network, errors_name_file, image_format
from jdarts.trained.program_file import read_sealed, sealed

DESCRIPTION = "description"
_FORMAT, _PROGRAM_FORMAT = "jdarts network 1", "jdarts program 1"
#: Longest allowed description in bytes: enough for the names of 100,000 classes.
_MAX_DESCRIPTION_BYTES = 16_000_000
#: Platforms that an exported program runs on.
PLATFORMS = ("cpu", "cuda", "tpu")
#: Errors of jax and flatbuffers for bytes that are not a program.
_UNREADABLE_PROGRAM = (
    ValueError, TypeError, NotImplementedError, AttributeError, LookupError, ArithmeticError, AssertionError, StopIteration,
    struct.error,
)  # fmt: skip


def save_arrays(trained: TrainedNetwork, path: Path) -> None:
    """Writes a network as a plain `.npz`: its arrays by name, and a description as JSON text.

    The names are the paths of the variables, such as `params/cell0/stage0/sep_conv_3x3_of_0/depthwise1`. The file is written
    whole or not at all, and read without pickle.

    Raises:
      InputError: the file cannot be written.
    """
    network = trained.network
    description = {
        "format": _FORMAT,
        "genotype": json.loads(network.genotype.to_json()),
        "network": {
            "stem": network.stem,
            "channels": network.channels,
            "cells": network.cells,
            "classes": network.classes,
        },
        "images": dataclasses.asdict(trained.images),
    }
    arrays: Any = {
        jax.tree_util.keystr(place, simple=True, separator="/"): np.asarray(leaf)
        for place, leaf in jax.tree.leaves_with_path(dict(trained.variables))
    }
    content = io.BytesIO()
    np.savez(content, **{DESCRIPTION: np.array(json.dumps(description))}, **arrays)
    write_content(path, content.getvalue())


def save_program(trained: TrainedNetwork, path: Path) -> None:
    """Writes a network as a StableHLO program that runs without jdarts: a function from uint8 `[B, H, W, C]` to logits.

    Any process with jax can run it: `jax.export.deserialize(bytearray(open(path, 'rb').read())).call(images)`. The number of
    images is free; weights and normalisation are part of the program. The class names and a checksum of the whole file
    follow the program; `load` verifies the checksum, plain jax ignores both.

    Raises:
      InputError: the file cannot be written.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *trained.images.shape), jnp.uint8)
    exported = jax.export.export(jax.jit(trained.logits), platforms=PLATFORMS)(images)
    description = {"format": _PROGRAM_FORMAT, "images": dataclasses.asdict(trained.images)}
    write_content(path, sealed(bytes(exported.serialize()), description))


def read_network(path: Path) -> TrainedNetwork:
    """Reads a network that `save_arrays` has written.

    Raises:
      InputError: the file is damaged or of another kind.
    """
    arrays = read_arrays(path)
    text = arrays.pop(DESCRIPTION, None)
    if text is None:
        raise InputError(
            f"{path} holds arrays, but not those of a network that jdarts has exported; import a "
            "PyTorch checkpoint with: python -m jdarts.export FILE --genotype NAME --out network.npz"
        )
    description = _checked_format(path, _parse_description(path, text), _FORMAT)
    with errors_name_file(path):
        images = image_format(description["images"])
        modules = {name.split("/")[1] for name in arrays if name.startswith("params/")}
        network = build_network(description, {stored.dtype for stored in arrays.values()}, modules)
        return TrainedNetwork(network, _read_variables(arrays, network, images.shape[2]), images)


def _parse_description(path: Path, text: StoredArray) -> Any:
    if text.shape or text.dtype.kind != "U" or text.nbytes > _MAX_DESCRIPTION_BYTES:
        raise InputError(f"{path} is damaged, or not an .npz file that jdarts has written: {DESCRIPTION!r} is not text")
    try:
        return json.loads(str(np.asarray(text)))
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not an .npz file that jdarts has written: {DESCRIPTION!r} is not JSON") from None


def read_program(path: Path) -> tuple[jax.export.Exported, ImageFormat]:
    """Reads a program that `save_program` has written, and its image format.

    Raises:
      InputError: the file is damaged, has no checksum, or comes from a version of jax that this one cannot read.
    """
    program, content = read_sealed(path)
    description = _checked_format(path, content, _PROGRAM_FORMAT)
    with errors_name_file(path):
        images = image_format(description["images"])
    try:
        return jax.export.deserialize(program), images
    except _UNREADABLE_PROGRAM as error:
        raise InputError(
            f"{path} holds a program that this version of jax cannot read ({shortened(str(error), 100)}); export the network "
            "again with this version"
        ) from None


def _checked_format(path: Path, description: Any, wanted: str) -> dict[str, Any]:
    format_name = description.get("format") if isinstance(description, dict) else None
    if format_name != wanted:
        raise InputError(f"{path} has the format {format_name!r:.60}; this version of jdarts reads {wanted!r}")
    return description


def _read_variables(arrays: Mapping[str, StoredArray], network: DiscreteNetwork, image_channels: int) -> dict[str, Any]:
    """Reads the variables of a network, if all names and shapes are those of the network."""
    shapes = init_shapes(network, image_channels)
    wanted = {jax.tree_util.keystr(place, simple=True, separator="/") for place, _ in jax.tree.leaves_with_path(shapes)}
    for name in sorted(wanted ^ set(arrays)):
        what = "missing" if name in wanted else "not an array of its network"
        raise InputError(f"{name[:80]!r} is {what}; export the network again")

    def leaf(place: Any, expected: jax.ShapeDtypeStruct) -> np.ndarray:
        name = jax.tree_util.keystr(place, simple=True, separator="/")
        if arrays[name].shape != expected.shape:
            raise InputError(
                f"{name!r} has the shape {arrays[name].shape}, its network needs {expected.shape}; export it again"
            )
        return np.asarray(arrays[name])

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def write_content(path: Path, content: bytes) -> None:
    """Writes a whole file or nothing.

    Raises:
      InputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, content)
    except OSError as error:
        raise InputError(
            f"cannot write {shortened(str(path), 200)}: {error.strerror or error}; give another name or folder"
        ) from None
