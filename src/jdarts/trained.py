"""Trained networks: read from a run, from arrays or from an exported program, and used on batches of images."""

import contextlib
import dataclasses
import functools
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts import checkpoint
from jdarts.array_file import StoredArray, read_arrays
from jdarts.data import normalise
from jdarts.data.checks import check_statistics
from jdarts.errors import InputError
from jdarts.files import replace_bytes
from jdarts.genotype import Genotype, parse_genotype
from jdarts.nets.discrete import DiscreteNetwork, check_images_of, check_network, init_shapes
from jdarts.nets.reference_names import discrete_entries
from jdarts.program_file import read_sealed, sealed

DESCRIPTION = "description"
_FORMAT, _PROGRAM_FORMAT = "jdarts network 1", "jdarts program 1"
#: Bytes of the longest description that is read: names of 100,000 classes have room in it.
_LONGEST_DESCRIPTION = 16_000_000
#: Pixels of the longest side of images.
LONGEST_SIDE = 16_384
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

    Raises:
      InputError: a size that no image has, or statistics that do not fit the channels or the scale.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or not all(type(size) is int and 1 <= size <= LONGEST_SIDE for size in self.shape):
            raise InputError(
                f"images are [H, W, C] = {list(self.shape)}; give whole numbers from 1 to {LONGEST_SIDE:,} for each"
            )
        check_statistics(self.mean, self.std, self.shape[2])


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network with its weights, in use: without auxiliary head.

    Attributes:
      network: the network.
      variables: `{'params': …, 'batch_stats': …}`.
      images: what it reads.

    Raises:
      InputError: the network cannot read images of this size, or has another number of classes than there are names.
    """

    network: DiscreteNetwork
    variables: Mapping[str, Any]
    images: ImageFormat

    def __post_init__(self) -> None:
        height, width, _ = self.images.shape
        check_images_of(self.network, height, width)
        names = len(self.images.class_names)
        if names not in (0, self.network.classes):
            raise InputError(f"{names} class names for {self.network.classes} classes; give one for each")

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
      class_names: one name per class; empty where they are not known, as from a checkpoint of PyTorch.
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
    images is free; weights and normalisation are part of the program. Behind it stand the class names and a checksum over
    all, which `load` verifies and plain jax passes over.

    Raises:
      InputError: the file cannot be written.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *trained.images.shape), jnp.uint8)
    exported = jax.export.export(jax.jit(trained.logits), platforms=PLATFORMS)(images)
    description = {"format": _PROGRAM_FORMAT, "images": dataclasses.asdict(trained.images)}
    _write(path, sealed(bytes(exported.serialize()), description))


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
    program, description = read_sealed(path)
    with _description_checked(path, description, _PROGRAM_FORMAT):
        images = _image_format(description["images"])
    try:
        exported = jax.export.deserialize(program)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"{path} holds a program that this version of jax cannot read ({error}); export the network again with this version"
        ) from None
    return Classifier(jax.jit(exported.call), images.shape, images.class_names)


def _from_arrays(path: Path) -> TrainedNetwork:
    arrays = read_arrays(path)
    text = arrays.pop(DESCRIPTION, None)
    if text is None:
        raise InputError(
            f"{path} holds arrays, but not those of a network that jdarts has exported; a checkpoint of PyTorch is "
            "brought in with python -m jdarts.export FILE --genotype NAME --out network.npz"
        )
    with _description_checked(path, description := _parsed(path, text), _FORMAT):
        images = _image_format(description["images"])
        cells = len({name.split("/")[1] for name in arrays if name.startswith("params/cell")})
        if description["network"]["cells"] != cells:
            raise InputError(f"its description tells {description['network']['cells']} cells, it holds {cells}")
        network = _network(description, {stored.dtype for stored in arrays.values()})
        return TrainedNetwork(network, _fitting(arrays, network, images.shape[2]), images)


def _parsed(path: Path, text: StoredArray) -> Any:
    if text.shape or text.dtype.kind != "U" or text.nbytes > _LONGEST_DESCRIPTION:
        raise InputError(f"{path} is damaged, or no .npz file that jdarts has written: {DESCRIPTION!r} is no text")
    try:
        return json.loads(str(np.asarray(text)))
    except (ValueError, RecursionError):
        raise InputError(f"{path} is no .npz file that jdarts has written: {DESCRIPTION!r} is no JSON text") from None


@contextlib.contextmanager
def _description_checked(path: Path, description: Any, wanted: str) -> Iterator[None]:
    """Names the file in what is raised of its description, of this format."""
    found = description.get("format") if isinstance(description, dict) else None
    if found != wanted:
        raise InputError(f"{path} is of the format {found!r:.60}; this version of jdarts reads {wanted!r}")
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is no file that jdarts has written: its description does not tell the network ({error!r:.80})"
        ) from None


def _fitting(arrays: Mapping[str, StoredArray], network: DiscreteNetwork, image_channels: int) -> dict[str, Any]:
    """The variables of a network, read where all names, shapes and types are its own."""
    wanted = {"/".join(entry.path) for entry in discrete_entries(network)}
    for name in sorted(wanted ^ set(arrays)):
        raise InputError(f"{name[:80]!r} is {'missing' if name in wanted else 'no array of its network'}")

    def leaf(place: Any, expected: jax.ShapeDtypeStruct) -> np.ndarray:
        name = jax.tree_util.keystr(place, simple=True, separator="/")
        if arrays[name].shape != expected.shape:
            raise InputError(f"{name!r} has the shape {arrays[name].shape}, its network needs {expected.shape}")
        return np.asarray(arrays[name])

    return jax.tree_util.tree_map_with_path(leaf, init_shapes(network, image_channels))


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
    network = _network(description, {leaf.dtype for leaf in jax.tree.leaves(variables)})
    return TrainedNetwork(network, jax.device_get(variables), _image_format(description["images"]))


def _network(description: Mapping[str, Any], dtypes: set[np.dtype[Any]]) -> DiscreteNetwork:
    """The network that a description tells, of the one type that its arrays have."""
    settings = description["network"]
    dtype = next(iter(dtypes), np.dtype(np.float32))
    if len(dtypes) > 1 or not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(f"arrays of the types {', '.join(sorted(map(str, dtypes)))}; a network has one type of floats")
    network = DiscreteNetwork(
        genotype=parse_genotype(json.dumps(description["genotype"]), Genotype),
        stem=settings["stem"],
        channels=settings["channels"],
        cells=settings["cells"],
        classes=settings["classes"],
        auxiliary=False,
        dtype=jnp.dtype(dtype),
    )
    check_network(network)
    return network


def _image_format(fields: Mapping[str, Any]) -> ImageFormat:
    return ImageFormat(
        tuple(fields["shape"]), tuple(fields["mean"]), tuple(fields["std"]), tuple(map(str, fields["class_names"]))
    )
