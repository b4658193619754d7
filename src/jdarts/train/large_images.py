"""The images of a training on a set that does not fit in memory: batches that worker processes decode."""

from collections.abc import Iterable, Iterator

import jax

from jdarts.data import Augmentation
from jdarts.data.streamed.dataset import LargeDataset, PictureFiles
from jdarts.data.streamed.workers import check_workers
from jdarts.errors import InputError
from jdarts.runs.devices import Devices
from jdarts.runs.images import Batch, EvaluationBatches, batch_shapes, place_batch
from jdarts.runs.large_images import PictureReader
from jdarts.train.images import check_trains_batch


class LargeImages:
    """An image set on disk, with the methods and attributes of `MemoryImages`.

    The order of the images and their random changes depend on the seed, the epoch and the index in it, but not on the number
    of workers or on where a run begins.

    Args:
      dataset: the images.
      devices: those that share a batch; one by default.
      batch_size: images of a batch.
      validation_fraction: share of the training images that is held out.
      augmentation: augmentation of the training images.
      epochs: passes over the training images.
      reader: how the pictures become images.
      seed: seed of the order of the images and of their random changes.

    Raises:
      InputError: grain is not installed, a held-out part without images, or fewer training images than a batch.
    """

    on_device = False

    def __init__(
        self,
        dataset: LargeDataset,
        devices: Devices | None = None,
        *,
        batch_size: int,
        validation_fraction: float,
        augmentation: Augmentation,
        epochs: int,
        reader: PictureReader,
        seed: int,
    ) -> None:
        check_workers()
        self._devices = devices
        self.fingerprint = dataset.fingerprint
        self._batch, self._reader = batch_size, reader
        self._train, self._test = dataset.train, dataset.test
        self.train_count = int((1 - validation_fraction) * len(dataset.train))
        self.valid_count = len(dataset.train) - self.train_count
        self.test_count = len(dataset.test)
        if validation_fraction and not self.valid_count:
            raise InputError(
                f"--validation-fraction {validation_fraction} of {len(dataset.train)} images holds none out; give more"
            )
        check_trains_batch(dataset.name, self.train_count, batch_size)
        self.image_shape = reader.image_shape
        self.class_names = dataset.class_names
        self.mean, self.std = dataset.mean, dataset.std
        self.augmentation = augmentation
        views = reader.training_views(
            dataset.train,
            count=self.train_count,
            epochs=epochs,
            per_epoch=self.steps_per_epoch * batch_size,
            seed=seed,
        )
        self._stream = reader.stream(views, batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of the training images."""
        return self.train_count // self._batch

    def step_shapes(self) -> Batch:
        """Shapes and types of the batches of `epoch`."""
        return batch_shapes(self.image_shape, images=self._batch, rows=self._batch)

    def epoch(self, key: jax.Array, epoch: int, calls: Iterable[range]) -> Iterator[Batch]:
        """The batches of calls of one step; arguments as for `MemoryImages.epoch`. The key has no effect."""
        for (step,) in calls:
            yield place_batch(*self._stream.batch(epoch * self.steps_per_epoch + step), devices=self._devices)

    def valid_batches(self) -> EvaluationBatches:
        """The held-out images, in batches of one size with a mask of the images that count."""
        return self._evaluation(self._train, self.train_count, self.valid_count)

    def test_batches(self) -> EvaluationBatches:
        """The test images, in batches of one size with a mask of the images that count."""
        return self._evaluation(self._test, 0, self.test_count)

    def valid_name(self, place: int) -> str:
        """What the set calls a held-out image."""
        return self._train.where(self.train_count + place)

    def test_name(self, place: int) -> str:
        """What the set calls a test image."""
        return self._test.where(place)

    def _evaluation(self, split: PictureFiles, first: int, count: int) -> EvaluationBatches:
        return self._reader.evaluation_batches(split, first, count, size=self._batch)
