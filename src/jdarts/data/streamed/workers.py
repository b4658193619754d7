"""Batches of large pictures, decoded by worker processes (grain), in an order that depends on the seed alone."""

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

from jdarts.data.streamed.dataset import PictureFiles
from jdarts.data.streamed.views import ColorJitter, evaluation_view, training_view
from jdarts.errors import InputError

#: Batches that each worker prefetches.
AHEAD = 2


class Views(Protocol):
    """A random-access sequence of images of one size with their labels."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int32]: ...


@dataclasses.dataclass(frozen=True)
class TrainingViews:
    """All images of a training, in the order of its steps.

    Each epoch has its own order, and each picture has its own random crop in each epoch. Both follow from the seed, so any
    image can be computed without those before it.

    Attributes:
      split: the pictures.
      count: number of pictures to train on, from the start of the split.
      epochs: number of epochs.
      per_epoch: images of an epoch, at most `count`.
      size: side of the images in pixels.
      jitter: strengths of colour changes.
      seed: below 2^32.
    """

    split: PictureFiles
    count: int
    epochs: int
    per_epoch: int
    size: int
    jitter: ColorJitter
    seed: int

    def __len__(self) -> int:
        return self.epochs * self.per_epoch

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int32]:
        """Image uint8 `[size, size, 3]` and label at an index that counts over all epochs."""
        epoch, within = divmod(index, self.per_epoch)
        row = int(self._order(epoch)[within])
        content, label = self.split[row]
        draws = np.random.RandomState([self.seed, epoch, row])
        with _named(self.split, row):
            return training_view(content, self.size, self.jitter, draws, self.split.decode), np.int32(label)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_last_order"}

    def _order(self, epoch: int) -> np.ndarray:
        """The order of the rows of an epoch. The latest one is cached, since a permutation of a million rows takes a while."""
        last = self.__dict__.get("_last_order")
        if last is None or last[0] != epoch:
            # Other seeds than those of the pictures' draws, which have three numbers.
            order = np.random.RandomState([self.seed, epoch]).permutation(self.count)
            last = self.__dict__["_last_order"] = (epoch, order.astype(np.int32))
        return last[1]


@dataclasses.dataclass(frozen=True)
class EvaluationViews:
    """The centre crops of consecutive pictures of a split.

    Attributes:
      split: the pictures.
      first: index of the first one.
      count: number of pictures.
      size: side of the images in pixels.
    """

    split: PictureFiles
    first: int
    count: int
    size: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int32]:
        """Image uint8 `[size, size, 3]` and label."""
        content, label = self.split[self.first + index]
        with _named(self.split, self.first + index):
            return evaluation_view(content, self.size, self.split.decode), np.int32(label)


@dataclasses.dataclass(frozen=True)
class InTurn:
    """Batches of several sequences of images in turn: the first batch of each, then the second of each.

    Attributes:
      views: the sequences.
      batch_size: images of a batch.
      count: images of each sequence, whole batches.
    """

    views: tuple[Views, ...]
    batch_size: int
    count: int

    def __len__(self) -> int:
        return len(self.views) * self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int32]:
        """Image and label."""
        batch, within = divmod(index, self.batch_size)
        round_, which = divmod(batch, len(self.views))
        return self.views[which][round_ * self.batch_size + within]


@contextlib.contextmanager
def _named(split: PictureFiles, place: int) -> Iterator[None]:
    """Puts the name of a picture before the message of what is wrong with it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{split.where(place)}: {error}") from error


class DecodedBatch(NamedTuple):
    """Images of one size with their labels.

    Attributes:
      images: uint8 `[B, H, W, 3]`.
      labels: int32 `[B]`.
    """

    images: np.ndarray
    labels: np.ndarray


def check_workers() -> None:
    """Checks that worker processes can be started.

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
    """The images in batches, of which the last may be smaller.

    Args:
      views: the images.
      batch_size: images of a batch.
      first: index of the first image.
      workers: processes that decode; 0 decodes in this process. The batches do not depend on it.

    Raises:
      InputError: grain is not installed, a picture cannot be read, or something has ended a worker.
    """
    check_workers()
    import grain  # pyright: ignore[reportMissingImports]

    # One thread for each worker: there are enough workers for all processors.
    reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=AHEAD)
    batches: Any = grain.MapDataset.source(views)[first:].batch(batch_size).map(_as_bytes).to_iter_dataset(reading)
    if workers:
        from absl import flags

        # grain reads its settings from absl's flags, which only programs that absl starts have parsed.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(workers, AHEAD), _end_with_parent)
    with _signals_blocked_in_children():
        iterator = iter(batches)
        batch = _next(iterator)
    try:
        while batch is not None:
            shape, images, labels = batch
            yield DecodedBatch(
                np.frombuffer(images, np.uint8).reshape(shape), np.frombuffer(labels, np.int32).reshape(shape[:1])
            )
            batch = _next(iterator)
    finally:
        iterator.close()


def _next(iterator: Iterator[Any]) -> Any:
    """The next batch, or None; an `InputError` if something outside has ended a worker."""
    try:
        return next(iterator, None)
    except RuntimeError as error:
        if _ENDED not in str(error):
            raise
        raise InputError(
            "something has ended a process that decodes pictures, as systems do that run out of memory; give fewer --workers, "
            "and start the same command again to resume"
        ) from error


#: Words of grain's error where a worker has ended without raising an error.
_ENDED = "terminated unexpectedly"


@contextlib.contextmanager
def _signals_blocked_in_children() -> Iterator[None]:
    """Blocks the signals that ask a run to save and stop, for processes that are started meanwhile.

    Ctrl-C reaches every process of a terminal. Threads and processes inherit the signal mask of their parent thread; a
    process that set the mask itself could be hit before.
    """
    # Its own start would unblock the signals.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _as_bytes(batch: tuple[np.ndarray, np.ndarray]) -> tuple[tuple[int, ...], bytes, bytes]:
    """A batch as bytes: arrays would use shared memory, which grain 0.2.18 does not always free."""
    images, labels = batch
    return images.shape, images.tobytes(), labels.astype(np.int32).tobytes()


def _end_with_parent(worker: int, count: int) -> None:
    """Ends this worker when its parent process ends, for whatever reason."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="jdarts parent watch", daemon=True).start()
