"""The two halves of a training set, for the weights and for the alphas, as steps and evaluation read them."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sized

import jax

from jdarts import data
from jdarts.errors import InputError
from jdarts.nets.stem import Stem, check_size_after
from jdarts.runs import processes
from jdarts.runs.devices import Devices
from jdarts.runs.images import (
    Batch,
    EvaluationBatches,
    ImagesOn,
    StepImages,
    evaluation_batches,
    evaluation_shapes,
    fit_on_device,
    rows_of,
)
from jdarts.search.step import Images, Rows
from jdarts.space import CellKind


@dataclasses.dataclass(frozen=True)
class Halves:
    """How a search splits its training images.

    Attributes:
      batch_size: images of a batch.
      train_fraction: share of the training images that trains the weights.
      alpha_fraction: share of them that trains the alphas; None for all others.
      split_seed: seed of the split; None for the default of the set.
      stem: stem of the network.
      kinds: of the cells of the network in order, whose reductions the images must fit.
    """

    batch_size: int
    train_fraction: float
    alpha_fraction: float | None
    split_seed: int | None
    stem: Stem
    kinds: tuple[CellKind, ...]

    def check(self, name: str, weights: Sized, alphas: Sized, height: int, width: int) -> None:
        """Checks that each half of an image set has a batch, and that the network reads the images.

        Args:
          name: of the image set.
          weights: the half that trains the weights.
          alphas: the half that trains the alphas.
          height: of the images in pixels.
          width: likewise.

        Raises:
          InputError: a half has fewer images than a batch, or the size of the images does not fit the reductions.
        """
        for what, part in (("weights", weights), ("alphas", alphas)):
            if len(part) < self.batch_size:
                raise InputError(
                    f"--batch-size is {self.batch_size}, but the part of {name} that trains the {what} has {len(part)} images; "
                    f"give {len(part)} or less"
                )
        check_size_after(self.stem, height, width, self.kinds)


class SearchImages:
    """The images of a search: whole halves on the device, or batches that the host gathers.

    Args:
      dataset: the images.
      devices: those that share a batch; one by default.
      halves: how they are split.
      images_on: where to keep the images.

    Attributes:
      train: the weights' half.
      valid: the alphas' half.
      on_device: whether the images are on the device.
      image_shape: `(H, W, C)`.
      fingerprint: identifies the set.

    Raises:
      InputError: a half has less than a batch or lacks a class that the other has, or the size of the images does not
        fit the reductions.
    """

    def __init__(
        self,
        dataset: data.ImageDataset,
        devices: Devices | None = None,
        *,
        halves: Halves,
        images_on: ImagesOn,
    ) -> None:
        self._devices = devices or Devices()
        self._batch = halves.batch_size
        self.fingerprint = dataset.fingerprint
        self.train, self.valid = dataset.halves(
            fraction=halves.train_fraction, second=halves.alpha_fraction, seed=halves.split_seed
        )
        self.image_shape = dataset.image_shape
        halves.check(dataset.name, self.train, self.valid, *dataset.image_shape[:2])
        self.on_device = fit_on_device(images_on, self.train, self.valid)
        self._halves = [
            StepImages(half, self._batch, on_device=self.on_device, devices=self._devices)
            for half in (self.train, self.valid)
        ]

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of the weights' half."""
        return len(self.train) // self._batch

    def step_shapes(self) -> tuple[Images, Rows]:
        """Shapes and types of `step_inputs`."""
        return step_inputs(*(half.shapes() for half in self._halves))

    def epoch(self, rows: Callable[[], Rows], epoch: int, calls: Iterable[range]) -> Iterator[tuple[Images, Rows]]:
        """The inputs of calls that take steps of an epoch.

        Args:
          rows: gives those of all steps of the epoch.
          epoch: the epoch, counted from 0; it has no effect beside the rows.
          calls: indices of the steps of each call.
        """
        of_epoch = rows()
        if not self.on_device or not processes.is_single_process():
            of_epoch = jax.device_get(of_epoch)
        for steps in calls:
            yield self.step_inputs(of_epoch, steps)

    def step_inputs(self, rows: Rows, steps: range) -> tuple[Images, Rows]:
        """The inputs of a call.

        Args:
          rows: rows of all steps of an epoch, `[steps, B]`; for several runs `[runs, steps, B]`. The returned rows, and images
            that the host gathers, then also have the axis of the runs.
          steps: indices of its steps. Several, whose images are on the device, are the last axis of the returned rows.
        """
        return step_inputs(*(half.batch(rows_of(chosen, steps)) for half, chosen in zip(self._halves, rows)))

    def evaluation_shapes(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes and types of `evaluation_batches`: images, labels, mask."""
        return evaluation_shapes(self.valid.images.shape[1:], self._batch)

    def evaluation_batches(self) -> EvaluationBatches:
        """The alphas' half in batches of one size; the last is padded, and a mask says which images count."""
        return evaluation_batches(self.valid, self._batch)


def step_inputs(train: Batch, valid: Batch) -> tuple[Images, Rows]:
    """A batch of each half as a step takes them."""
    return Images(train.images, train.labels, valid.images, valid.labels), Rows(train.rows, valid.rows)
