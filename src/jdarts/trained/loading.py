"""Trained networks: read from a run, from arrays or from an exported program, and used on batches of images."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.files.archive import is_archive
from jdarts.files.arrays import is_file, unreadable
from jdarts.trained.network import ImageFormat as ImageFormat
from jdarts.trained.network import TrainedNetwork, described_network, description_of, image_format
from jdarts.trained.network_file import read_network, read_program
from jdarts.trained.network_file import save_arrays as save_arrays
from jdarts.trained.network_file import save_program as save_program
from jdarts.trained.program_file import is_sealed


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
    if is_file(path) and not _is_archive(path):
        program, images = read_program(path)
        return Classifier(jax.jit(program.call), images.shape, images.class_names)
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
    if is_file(path):
        if is_sealed(path):
            raise InputError(
                f"{path} is an exported program, which holds no weights to read; give the run, checkpoint or .npz file that it "
                "was exported from"
            )
        return read_network(path)
    return _from_checkpoint(_chosen(path))


def _is_archive(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_archive(file.read(4))
    except OSError as error:
        raise unreadable(path, error) from None


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
    with description_of(found.path):
        # The state of `jdarts.train`: running averages of the weights, where there are any, are what it evaluates.
        trained = state.get("average") or {"params": state["weights"], "batch_stats": state.get("model_state", {})}
        variables = {
            collection: {name: leaves for name, leaves in trained.get(collection, {}).items() if name != "auxiliary"}
            for collection in ("params", "batch_stats")
        }
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(variables)}
        network = described_network(description, dtypes, variables["params"])
        return TrainedNetwork(network, jax.device_get(variables), image_format(description["images"]))
