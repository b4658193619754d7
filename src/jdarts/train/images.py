"""The images of a training, from a set in memory, as steps and evaluations read them."""

import functools
from collections.abc import Iterable, Iterator

import jax
import numpy as np

from jdarts import data
from jdarts.errors import InputError
from jdarts.runs.devices import Devices
from jdarts.runs.images import (
    Batch,
    EvaluationBatches,
    ImagesOn,
    StepImages,
    evaluation_batches,
    fit_on_device,
    rows_of,
    shuffled_rows,
)
from jdarts.train.step import epoch_key


class MemoryImages:
    """An image set in memory.

    Args:
      dataset: the images.
      devices: those that share a batch; one by default.
      batch_size: images of a batch.
      validation_fraction: share of the training images that is held out.
      split_seed: seed of the choice of the held-out images; None for the default of the set.
      augmentation: augmentation of the training images.
      images_on: where to keep the training images.

    Attributes:
      on_device: whether all training images are on the device.
      train_count: number of images that train.
      valid_count: number of held-out images.
      test_count: number of test images.
      image_shape: `(H, W, C)`.
      class_names: one name per label.
      mean: per channel, on the scale 0..1.
      std: per channel, on the scale 0..1.
      augmentation: augmentation of the training images.
      fingerprint: identifies the set.

    Raises:
      InputError: a held-out part without images or without a class that the others have, or fewer training images than a batch.
    """

    def __init__(
        self,
        dataset: data.ImageDataset,
        devices: Devices | None = None,
        *,
        batch_size: int,
        validation_fraction: float,
        split_seed: int | None,
        augmentation: data.Augmentation,
        images_on: ImagesOn,
    ) -> None:
        self._batch = batch_size
        self.fingerprint = dataset.fingerprint
        # The whole set, with the held-out images at its end, which no step reads: trainings with and without them then have
        # arrays of one shape.
        whole, self.train_count = dataset.train, len(dataset.train)
        if validation_fraction:
            whole, self.train_count = dataset.arranged(fraction=1 - validation_fraction, seed=split_seed)
        self._valid = data.ImageSplit(*whole[self.train_count :]) if validation_fraction else None
        self._test, self._test_names = dataset.test, dataset.test_names
        self.valid_count = len(whole) - self.train_count
        self.test_count = len(dataset.test)
        check_trains_batch(dataset.name, self.train_count, batch_size)
        self.image_shape = dataset.image_shape
        self.class_names = dataset.class_names
        self.mean, self.std = dataset.mean, dataset.std
        self.augmentation = augmentation
        self.on_device = fit_on_device(images_on, whole)
        self._images = StepImages(whole, batch_size, on_device=self.on_device, devices=devices)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of the training images."""
        return self.train_count // self._batch

    def step_shapes(self) -> Batch:
        """Shapes and types of the batches of `epoch`."""
        return self._images.shapes()

    def epoch(self, key: jax.Array, epoch: int, calls: Iterable[range]) -> Iterator[Batch]:
        """The batches of calls that take steps of an epoch.

        Args:
          key: the state's key.
          epoch: the epoch, counted from 0.
          calls: indices of the steps of each call. Several steps, whose images are on the device, are the last axis of the rows.
        """
        size = {"steps": self.steps_per_epoch, "batch_size": self._batch}
        rows = _rows_of_epoch(key, np.int32(epoch), self.train_count, **size)
        if not self.on_device:
            rows = jax.device_get(rows)
        for steps in calls:
            yield self._images.batch(rows_of(rows, steps))

    def valid_batches(self) -> EvaluationBatches:
        """The held-out images, as `evaluation_batches` gives them."""
        assert self._valid is not None
        return evaluation_batches(self._valid, self._batch)

    def test_batches(self) -> EvaluationBatches:
        """The test images, as `evaluation_batches` gives them."""
        return evaluation_batches(self._test, self._batch)

    def valid_name(self, place: int) -> str:
        """What the set calls a held-out image; empty, since the sets in memory name their test images alone."""
        del place
        return ""

    def test_name(self, place: int) -> str:
        """What the set calls a test image; empty for a set without names."""
        return self._test_names[place] if self._test_names else ""


@functools.partial(jax.jit, static_argnames=("count", "steps", "batch_size"))
def _rows_of_epoch(key: jax.Array, epoch: jax.Array, count: int, *, steps: int, batch_size: int) -> jax.Array:
    """Rows of all steps of an epoch: one program for all trainings of these sizes."""
    return shuffled_rows(epoch_key(key, epoch), count, steps=steps, batch_size=batch_size)


def check_trains_batch(name: str, count: int, batch_size: int) -> None:
    """Checks that the images that train fill a batch.

    Args:
      name: of the image set.
      count: images that train.
      batch_size: images of a batch.

    Raises:
      InputError: they do not.
    """
    if count < batch_size:
        raise InputError(f"--batch-size is {batch_size}, but {count} images of {name} train; give {count} or less")
