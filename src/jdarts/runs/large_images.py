"""Pictures on disk as runs read them: batches in the order of the steps, and batches of an evaluation."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from jdarts.data.streamed.dataset import PictureFiles
from jdarts.data.streamed.views import ColorJitter
from jdarts.data.streamed.workers import DecodedBatch, EvaluationViews, TrainingViews, Views, decoded_batches
from jdarts.runs.images import EvaluationBatches


class PictureStream:
    """The batches of all steps of a run, which worker processes decode ahead.

    One stream covers all epochs, so that workers start once.

    Args:
      views: the images of all steps, in order.
      size: images of a batch.
      workers: number of processes that decode; 0 decodes in this process.
    """

    def __init__(self, views: Views, size: int, *, workers: int) -> None:
        self._views, self._size, self._workers = views, size, workers
        self._ahead: Iterator[DecodedBatch] = iter(())
        self._last: tuple[int, DecodedBatch] | None = None

    def batch(self, number: int) -> DecodedBatch:
        """A batch by its number, from 0. The one after the last one asked for is decoded already, as is that one itself."""
        if self._last is not None and self._last[0] == number:
            return self._last[1]
        if self._last is None or self._last[0] + 1 != number:
            self._ahead = decoded_batches(self._views, self._size, first=number * self._size, workers=self._workers)
        found = next(self._ahead)
        self._last = number, found
        if (number + 1) * self._size >= len(self._views):
            # After the last batch the workers end.
            self._ahead = iter(())
        return found


@dataclasses.dataclass(frozen=True)
class PictureReader:
    """How the pictures of a run become images.

    Attributes:
      side: side of the crops in pixels.
      jitter: strengths of colour changes.
      workers: number of processes that decode the pictures; 0 decodes them in this process.
    """

    side: int
    jitter: ColorJitter
    workers: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` of an image."""
        return self.side, self.side, 3

    def training_views(
        self, split: PictureFiles, *, count: int, epochs: int, per_epoch: int, seed: int
    ) -> TrainingViews:
        """Random crops of pictures; arguments as for `TrainingViews`."""
        return TrainingViews(
            split=split,
            count=count,
            epochs=epochs,
            per_epoch=per_epoch,
            size=self.side,
            jitter=self.jitter,
            seed=seed,
        )

    def stream(self, views: Views, size: int) -> PictureStream:
        """The batches of all steps of a run; arguments as for `PictureStream`."""
        return PictureStream(views, size, workers=self.workers)

    def evaluation_batches(self, split: PictureFiles, first: int, count: int, *, size: int) -> EvaluationBatches:
        """The centre crops of consecutive pictures in batches of one size, the last padded, with a mask of those that count.

        Args:
          split: the pictures.
          first: index of the first one.
          count: number of pictures.
          size: images of a batch.
        """
        views = EvaluationViews(split, first, count, self.side)
        for images, labels in decoded_batches(views, size, first=0, workers=self.workers):
            missing = size - len(labels)
            mask = np.arange(size) < len(labels)
            yield np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))), np.pad(labels, (0, missing)), mask
