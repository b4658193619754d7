"""The two halves of a training set that memory does not hold: batches that worker processes decode."""

from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from jdarts.data.splitting import disjoint_parts
from jdarts.data.streamed.dataset import LargeDataset, SomePictures
from jdarts.data.streamed.workers import InTurn, check_workers
from jdarts.runs.devices import Devices
from jdarts.runs.images import Batch, EvaluationBatches, batch_shapes, evaluation_shapes, place_batch
from jdarts.runs.large_images import PictureReader
from jdarts.search.images import Halves, step_inputs
from jdarts.search.step import Images, Rows


class LargeSearchImages:
    """An image set on disk, with the methods and attributes of `SearchImages`.

    The order of the pictures and their random crops follow from the seed and the step alone. The alphas' half is read in passes
    that do not begin with the epochs, since it may be smaller or larger than the weights' half.

    Args:
      dataset: the pictures.
      devices: those that share a batch; one by default.
      halves: how they are split.
      epochs: passes over the weights' half.
      reader: how the pictures become images.
      seed: seeds of the order of the pictures and of their random changes.

    Raises:
      InputError: grain is not installed, or as for `SearchImages`.
    """

    on_device = False

    def __init__(
        self,
        dataset: LargeDataset,
        devices: Devices | None = None,
        *,
        halves: Halves,
        epochs: int,
        reader: PictureReader,
        seed: tuple[int, ...],
    ) -> None:
        check_workers()
        self._devices = devices or Devices()
        self._batch, self._reader = halves.batch_size, reader
        self.fingerprint = dataset.fingerprint
        self.image_shape = reader.image_shape
        labels, split_seed = dataset.train.labels, halves.split_seed
        if split_seed is None and labels is not None:
            split_seed = 0
        parts = disjoint_parts(
            labels,
            len(dataset.train),
            fraction=halves.train_fraction,
            second=halves.alpha_fraction,
            seed=split_seed,
            names=dataset.class_names,
        )
        self.train, self.valid = (SomePictures(dataset.train, rows.astype(np.int32)) for rows in parts)
        halves.check(dataset.name, self.train, self.valid, reader.side, reader.side)
        images = epochs * self.steps_per_epoch * self._batch
        seeds = np.random.SeedSequence(seed).generate_state(2).tolist()
        views = (
            reader.training_views(half, count=len(half), epochs=-(-images // per_epoch), per_epoch=per_epoch, seed=each)
            for half, per_epoch, each in (
                (self.train, self.steps_per_epoch * self._batch, seeds[0]),
                (self.valid, len(self.valid), seeds[1]),
            )
        )
        self._stream = reader.stream(InTurn(tuple(views), self._batch, images), 2 * self._batch)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of the weights' half."""
        return len(self.train) // self._batch

    def step_shapes(self) -> tuple[Images, Rows]:
        """Shapes and types of the inputs of a step."""
        shapes = batch_shapes(self.image_shape, images=self._batch, rows=self._batch)
        return step_inputs(shapes, shapes)

    def epoch(self, rows: Callable[[], Rows], epoch: int, calls: Iterable[range]) -> Iterator[tuple[Images, Rows]]:
        """The inputs of calls of one step; arguments as for `SearchImages.epoch`. The rows have no effect."""
        for (step,) in calls:
            images, labels = self._stream.batch(epoch * self.steps_per_epoch + step)
            halves = (slice(None, self._batch), slice(self._batch, None))
            yield step_inputs(*(self._placed(images[half], labels[half]) for half in halves))

    def _placed(self, images: np.ndarray, labels: np.ndarray) -> Batch:
        share = self._devices.share
        return place_batch(share(images), share(labels), len(labels), self._devices)

    def evaluation_shapes(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes and types of `evaluation_batches`: images, labels, mask."""
        return evaluation_shapes(self.image_shape, self._batch)

    def evaluation_batches(self) -> EvaluationBatches:
        """The alphas' half in batches of one size; the last is padded, and a mask says which images count."""
        return self._reader.evaluation_batches(self.valid, 0, len(self.valid), size=self._batch)
