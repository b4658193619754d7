"""Batches of large pictures, decoded by worker processes (grain), in an order that a seed alone decides."""

import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from jdarts.data.streamed.dataset import LargeSplit
from jdarts.data.streamed.views import ColorJitter, evaluation_view, training_view
from jdarts.errors import InputError

#: Batches that every worker keeps ready.
AHEAD = 2


class Views(Protocol):
    """A sequence of images of one size with their labels, which a worker can make from any place on."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int32]: ...


@dataclasses.dataclass(frozen=True)
class TrainingViews:
    """All images of a training, one after the other as its steps take them.

    Each epoch has its own order, and each picture its own random part in each epoch: both follow from the seed, so that
    any place of any epoch can be made without what stands before it.

    Attributes:
      split: the pictures.
      count: the first so many of them train.
      epochs: number of epochs.
      per_epoch: images of an epoch, `count` at the most.
      size: side of the images.
      jitter: how far colours are changed.
      seed: below 2^32.
    """

    split: LargeSplit
    count: int
    epochs: int
    per_epoch: int
    size: int
    jitter: ColorJitter
    seed: int

    def __len__(self) -> int:
        return self.epochs * self.per_epoch

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int32]:
        """Image uint8 `[size, size, 3]` and label at a place counted over all epochs."""
        epoch, within = divmod(index, self.per_epoch)
        row = int(self._order(epoch)[within])
        content, label = self.split[row]
        draws = np.random.RandomState([self.seed, epoch, row])
        return training_view(content, self.size, self.jitter, draws), np.int32(label)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_known"}

    def _order(self, epoch: int) -> np.ndarray:
        """The rows of an epoch in order; the last one is kept, as an order of a million rows takes a while."""
        known = self.__dict__.get("_known")
        if known is None or known[0] != epoch:
            # Apart from the pictures' draws, which have three numbers.
            order = np.random.RandomState([self.seed, epoch]).permutation(self.count)
            known = self.__dict__["_known"] = (epoch, order.astype(np.int32))
        return known[1]


@dataclasses.dataclass(frozen=True)
class EvaluationViews:
    """The middle of each picture of a part of a split, in order.

    Attributes:
      split: the pictures.
      first: the first one.
      count: how many from there.
      size: side of the images.
    """

    split: LargeSplit
    first: int
    count: int
    size: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int32]:
        """Image uint8 `[size, size, 3]` and label."""
        content, label = self.split[self.first + index]
        return evaluation_view(content, self.size), np.int32(label)


class DecodedBatch(NamedTuple):
    """Images of one size with their labels.

    Attributes:
      images: uint8 `[B, H, W, 3]`.
      labels: int32 `[B]`.
    """

    images: np.ndarray
    labels: np.ndarray


def check_workers() -> None:
    """Checks that worker processes can be had.

    Raises:
      InputError: grain is not installed.
    """
    try:
        import grain  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            f"worker processes that decode pictures need the package grain ({error}); install it with: "
            "pip install 'jdarts[imagenet]'"
        ) from None


def decoded_batches(views: Views, batch_size: int, *, first: int, workers: int) -> Iterator[DecodedBatch]:
    """The images in batches; the last one has what is left.

    Args:
      views: the images.
      batch_size: images of a batch.
      first: place of the first image.
      workers: processes that decode; 0 decodes in this one. The batches do not depend on it.

    Raises:
      InputError: grain is not installed, or a picture cannot be read.
    """
    check_workers()
    import grain  # pyright: ignore[reportMissingImports]

    # Each worker reads with one thread: there are as many workers as processors to feed.
    reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=AHEAD)
    batches: Any = grain.MapDataset.source(views)[first:].batch(batch_size).map(_packed).to_iter_dataset(reading)
    if workers:
        from absl import flags

        # grain reads its settings from absl's flags, which only absl's own way of starting a program parses.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(workers, AHEAD), _end_with_the_parent)
    with _signals_kept_from_children():
        iterator = iter(batches)
        batch = next(iterator, None)
    try:
        while batch is not None:
            shape, images, labels = batch
            yield DecodedBatch(
                np.frombuffer(images, np.uint8).reshape(shape), np.frombuffer(labels, np.int32).reshape(shape[:1])
            )
            batch = next(iterator, None)
    finally:
        iterator.close()


@contextlib.contextmanager
def _signals_kept_from_children() -> Iterator[None]:
    """Lets processes that begin meanwhile never see the signals that ask a run to save itself and stop.

    Ctrl-C reaches every process of a terminal. Threads and processes inherit the mask of the thread that makes them; a
    process that set it for itself could be hit before.
    """
    # Where it has to be started first, it would lift the mask.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _packed(batch: tuple[np.ndarray, np.ndarray]) -> tuple[tuple[int, ...], bytes, bytes]:
    """Bytes in place of arrays: those would travel in shared memory, which grain 0.2.18 does not always give back."""
    images, labels = batch
    return images.shape, images.tobytes(), labels.astype(np.int32).tobytes()


def _end_with_the_parent(worker: int, count: int) -> None:
    """Ends this worker when its parent has gone, however that came."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="jdarts parent watch", daemon=True).start()
