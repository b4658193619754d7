"""Trained networks: read from a run, from arrays or from an exported program, and used on batches of images."""

import dataclasses
import functools
import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts import checkpoint
from jdarts.data import normalise
from jdarts.errors import InputError
from jdarts.files import replace_bytes
from jdarts.genotype import Genotype, parse_genotype
from jdarts.nets.discrete import DiscreteNetwork

DESCRIPTION = "description"
_FORMAT = "jdarts network 1"
#: Platforms that an exported program runs on.
PLATFORMS = ("cpu", "cuda", "tpu")


@dataclasses.dataclass(frozen=True)
class ImageFormat:
    """What images a network reads.

    Attributes:
      shape: `(H, W, C)`.
      mean: per channel, on the scale 0..1.
      std: per channel, on the scale 0..1.
      class_names: one name per class; empty where they are not known.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network with its weights, in use: without auxiliary head.

    Attributes:
      network: the network.
      variables: `{'params': …, 'batch_stats': …}`.
      images: what it reads.
    """

    network: DiscreteNetwork
    variables: Mapping[str, Any]
    images: ImageFormat

    def apply(self, variables: Mapping[str, Any], images: jax.Array | np.ndarray) -> jax.Array:
        """The network with any variables: raw images, uint8 `[B, H, W, C]`, to logits `[B, classes]`. A pure function."""
        normal = normalise(images, mean=self.images.mean, std=self.images.std, dtype=self.network.dtype)
        return self.network.apply(dict(variables), normal, train=False, rngs={"noise": jax.random.key(0)})[0]

    def logits(self, images: jax.Array | np.ndarray) -> jax.Array:
        """`apply` with the network's own variables, which are constants of a program that is made of it."""
        return self.apply(jax.tree.map(jnp.asarray, dict(self.variables)), images)


class Classifier:
    """Classifies batches of raw images; `jdarts.load` makes it.

    Attributes:
      image_shape: `(H, W, C)` of its images.
      class_names: one name per class; empty where they are not known, as from an exported program.
    """

    def __init__(
        self, function: Callable[[Any], jax.Array], image_shape: tuple[int, int, int], class_names: tuple[str, ...] = ()
    ) -> None:
        self._function = function
        self.image_shape = image_shape
        self.class_names = class_names

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits of images; the largest of an image's logits is its class, their softmax the probabilities.

        The first call with each number of images compiles.

        Args:
          images: uint8 `[B, H, W, C]`, as they are in a data set: the normalisation is part of the network.

        Returns:
          float32 `[B, classes]`.

        Raises:
          InputError: images of another type or shape.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape or not len(images):
            height, width, channels = self.image_shape
            raise InputError(
                f"images are {images.dtype} {list(images.shape)}; this network reads uint8 [B, {height}, {width}, {channels}], "
                "pixels from 0 to 255"
            )
        return np.asarray(self._function(images))


def load(path: str | os.PathLike[str]) -> Classifier:
    """A trained network as a function of a batch of raw images.

    Args:
      path: the folder of a training, of which the best checkpoint is taken, or else the newest, one checkpoint of it, or a
        file that `python -m jdarts.export` has written, `.npz` or `.stablehlo`.

    Raises:
      InputError: nothing of this kind, or damaged.
    """
    path = Path(path)
    if path.is_file() and not _is_archive(path):
        return _exported(path)
    found = load_network(path)
    # As arguments: the compiler would work on constants for long.
    variables = jax.device_put(dict(found.variables))
    return Classifier(functools.partial(jax.jit(found.apply), variables), found.images.shape, found.images.class_names)


def load_network(path: str | os.PathLike[str]) -> TrainedNetwork:
    """The weights of a trained network with what is needed to use them.

    Args:
      path: as for `load`, but no exported program, which holds no weights to be read.

    Raises:
      InputError: nothing of this kind, or damaged.
    """
    path = Path(path)
    if path.is_file():
        return _from_arrays(path)
    return _from_checkpoint(_chosen(path))


def save_arrays(trained: TrainedNetwork, path: Path) -> None:
    """Writes a network as a plain `.npz`: its arrays by name, and a description as JSON text.

    Names are those of the variables, as in `params/cell0/stage0/sep_conv_3x3_of_0/depthwise1`. The file is written whole or
    not at all, and read without pickle.

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
    _write(path, content.getvalue())


def save_program(trained: TrainedNetwork, path: Path) -> None:
    """Writes a network as a StableHLO program that runs without jdarts: a function from uint8 `[B, H, W, C]` to logits.

    Any process with jax runs it: `jax.export.deserialize(bytearray(open(path, 'rb').read())).call(images)`. The number of
    images is free; weights and normalisation are part of the program.

    Raises:
      InputError: the file cannot be written.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *trained.images.shape), jnp.uint8)
    exported = jax.export.export(jax.jit(trained.logits), platforms=PLATFORMS)(images)
    _write(path, bytes(exported.serialize()))


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, content)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def _is_archive(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def _exported(path: Path) -> Classifier:
    try:
        exported = jax.export.deserialize(bytearray(path.read_bytes()))
        (images,) = exported.in_avals
        _, height, width, channels = images.shape
    except ImportError:
        raise
    except Exception as error:
        # What reads the program tells of damage in many ways.
        raise InputError(
            f"{path} is damaged, or no network that jdarts has exported ({type(error).__name__}); give a training's folder, or "
            "a file of python -m jdarts.export"
        ) from None
    return Classifier(jax.jit(exported.call), (int(height), int(width), int(channels)))


def _from_arrays(path: Path) -> TrainedNetwork:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            if DESCRIPTION not in file:
                raise InputError(
                    f"{path} holds arrays, but not those of a network that jdarts has exported; a checkpoint of PyTorch is "
                    "brought in with python -m jdarts.export FILE --genotype NAME --out network.npz"
                )
            description = json.loads(str(file[DESCRIPTION]))
            variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
            for name in file.files:
                if name != DESCRIPTION:
                    _put(variables, name.split("/"), file[name])
        if description["format"] != _FORMAT:
            raise InputError(f"{path} is {description['format']!r}; this version of jdarts reads {_FORMAT!r}")
        return _network(description, variables)
    except InputError:
        raise
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged, or no .npz file that jdarts has written ({error})") from None


def _put(tree: dict[str, Any], place: list[str], leaf: np.ndarray) -> None:
    *modules, last = place
    for module in modules:
        tree = tree.setdefault(module, {})
    tree[last] = leaf


def _chosen(path: Path) -> checkpoint.Checkpoint:
    """The best checkpoint of a run's folder, or the newest where there is no best one."""
    best = path / "best"
    found = checkpoint.newest(best, []) if best.is_dir() else None
    return found or checkpoint.find(path, [])


def _from_checkpoint(found: checkpoint.Checkpoint) -> TrainedNetwork:
    record: Any = found.record
    try:
        description = {
            "genotype": record["genotype"],
            "network": record["network"] | {"classes": len(record["images"]["class_names"])},
            "images": record["images"],
        }
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{found.path} is not a checkpoint of a training ({error} is missing); a search holds no network in use: train the "
            "cell that it has found, with python -m jdarts.train --genotype"
        ) from None
    state = checkpoint.load_all(found)
    # The state of `jdarts.train`: running averages of the weights, where there are any, are what it evaluates.
    trained = state.get("average") or {"params": state["weights"], "batch_stats": state.get("model_state", {})}
    variables = {
        collection: {name: leaves for name, leaves in trained.get(collection, {}).items() if name != "auxiliary"}
        for collection in ("params", "batch_stats")
    }
    return _network(description, variables)


def _network(description: Mapping[str, Any], variables: Mapping[str, Any]) -> TrainedNetwork:
    settings, images = description["network"], description["images"]
    height, width, channels = images["shape"]
    dtype = next((leaf.dtype for leaf in jax.tree.leaves(variables)), np.dtype(np.float32))
    network = DiscreteNetwork(
        genotype=parse_genotype(json.dumps(description["genotype"]), Genotype),
        stem=settings["stem"],
        channels=settings["channels"],
        cells=settings["cells"],
        classes=settings["classes"],
        auxiliary=False,
        dtype=jnp.dtype(dtype),
    )
    format_ = ImageFormat(
        (height, width, channels), tuple(images["mean"]), tuple(images["std"]), tuple(images["class_names"])
    )
    return TrainedNetwork(network, jax.device_get(variables), format_)
