"""Loads trained networks from a run, an array file or an exported program, and applies them to batches of images."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jdarts import checkpoint
from jdarts.derivation import check_registered
from jdarts.errors import InputError
from jdarts.files.archive import is_archive
from jdarts.files.arrays import is_file, unreadable
from jdarts.trained.network import ImageFormat as ImageFormat
from jdarts.trained.network import TrainedNetwork, build_network, errors_name_file, image_format
from jdarts.trained.network_file import read_network, read_program
from jdarts.trained.network_file import save_arrays as save_arrays
from jdarts.trained.network_file import save_program as save_program
from jdarts.trained.program_file import is_sealed


class Classifier:
    """A function from batches of raw images to logits, the result of `jdarts.load`.

    Attributes:
      image_shape: `(H, W, C)` of its images.
      class_names: one name per class; empty if they are unknown, as in a PyTorch checkpoint.
    """

    def __init__(
        self, function: Callable[[Any], jax.Array], image_shape: tuple[int, int, int], class_names: tuple[str, ...] = ()
    ) -> None:
        self._function = function
        self.image_shape = image_shape
        self.class_names = class_names

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits of images: the largest logit is the class of an image, and the softmax gives probabilities.

        The first call with each number of images compiles.

        Args:
          images: uint8 `[B, H, W, C]`, not normalised: the normalisation is part of the function.

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
    """Loads a trained network as a function of a batch of raw images.

    Args:
      path: the folder of a training (its best checkpoint, or else the newest, is loaded), one checkpoint of it, or an `.npz`
        or `.stablehlo` file of `python -m jdarts.export`.

    Raises:
      InputError: the path is none of these, or damaged.
    """
    path = Path(path)
    if is_file(path) and not _is_archive(path):
        program, images = read_program(path)
        return Classifier(jax.jit(program.call), images.shape, images.class_names)
    loaded = load_network(path)
    # The weights are arguments: constants would slow the compiler down.
    variables = jax.device_put(dict(loaded.variables))
    return Classifier(
        functools.partial(jax.jit(loaded.apply), variables), loaded.images.shape, loaded.images.class_names
    )


def load_network(path: str | os.PathLike[str]) -> TrainedNetwork:
    """Loads a trained network with its weights.

    Args:
      path: as for `load`, except exported programs, whose weights cannot be read.

    Raises:
      InputError: the path is none of these, or damaged.
    """
    path = Path(path)
    if is_file(path):
        if is_sealed(path):
            raise InputError(
                f"{path} is an exported program, whose weights cannot be read; give the run, checkpoint or .npz file that it "
                "was exported from"
            )
        return read_network(path)
    return _from_checkpoint(_best_or_newest(path))


def _is_archive(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_archive(file.read(4))
    except OSError as error:
        raise unreadable(path, error) from None


def _best_or_newest(path: Path) -> checkpoint.Checkpoint:
    """The best checkpoint of a run's folder, or else the newest."""
    best = path / "best"
    newest_best = checkpoint.newest(best, []) if best.is_dir() else None
    return newest_best or checkpoint.find(path, [])


def _from_checkpoint(saved: checkpoint.Checkpoint) -> TrainedNetwork:
    record: Any = saved.record
    if isinstance(record.get("network"), str):
        raise InputError(
            f"{saved.path} is of a training of a network of your own, whose class only your code has; apply it with "
            "jdarts.predictor(network, path)"
        )
    try:
        description = {
            "genotype": record["genotype"],
            "network": record["network"] | {"classes": len(record["images"]["class_names"])},
            "images": record["images"],
        }
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{saved.path} is not a checkpoint of a training ({error} is missing); a search has no trained network: train its "
            "cells with python -m jdarts.train --genotype"
        ) from None
    check_registered(record)
    state = checkpoint.load_all(saved)
    with errors_name_file(saved.path):
        # `jdarts.train` evaluates the averaged weights, if there are any.
        trained = state.get("average") or {"params": state["weights"], "batch_stats": state.get("model_state", {})}
        variables = {
            collection: {name: leaves for name, leaves in trained.get(collection, {}).items() if name != "auxiliary"}
            for collection in ("params", "batch_stats")
        }
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(variables)}
        network = build_network(description, dtypes, variables["params"])
        return TrainedNetwork(network, jax.device_get(variables), image_format(description["images"]))
