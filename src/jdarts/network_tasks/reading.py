"""The batches of a task as the steps of a run read them: placed on the devices, for one run or for several."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jdarts.choice.losses import batch_parts
from jdarts.errors import InputError
from jdarts.network_tasks.batches import Source, shape_words, shapes_of, with_examples
from jdarts.network_tasks.task import NetworkTask
from jdarts.runs.devices import Devices
from jdarts.runs.task import Evaluation

#: Shape and type of the number of examples of a batch, as a compiled evaluation takes it.
COUNT = jax.ShapeDtypeStruct((), np.float32)


class TaskData:
    """The data of a task.

    Args:
      task: the task.

    Attributes:
      train: trains the weights.
      valid: trains the alphas, or is held out; None for none.
      test: None for none.
      steps_per_epoch: steps of an epoch.
      fingerprint: identifies the data.

    Raises:
      InputError: a part gives no batches that could be read.
    """

    def __init__(self, task: NetworkTask) -> None:
        self.train = Source(task.train, "train")
        self.valid = None if task.valid is None else Source(task.valid, "valid")
        self.test = None if task.test is None else Source(task.test, "test")
        if task.inputs is None:
            batch_parts(self.train.first)
        for name, source in (("valid", self.valid), ("test", self.test)):
            if source is not None and with_examples(source.shapes, 1) != with_examples(self.train.shapes, 1):
                raise InputError(
                    f"a batch of {name} has {shape_words(source.shapes)}, and one of train {shape_words(self.train.shapes)}; "
                    "give batches that differ in the number of examples at most"
                )
        asked = task.steps_per_epoch
        count = self.train.count() if asked is None or self.train.is_sized else asked
        if count < (asked or 1):
            raise InputError(
                f"train has {count} batches of whole size in epoch 0, and steps_per_epoch is {asked or 1}; give as many"
            )
        self.steps_per_epoch = asked or count
        first = [each.first for each in (self.train, self.valid, self.test) if each is not None]
        self.fingerprint = {"loss": task.loss_name, "batches": _digest(first), "steps": self.steps_per_epoch}


class TaskBatches:
    """The batches of a task's data on devices.

    Args:
      data: the data.
      devices: those that share a batch, or the runs.
      seeds: of the runs.
      stacked: whether the runs are stacked, so that batches that depend on the seed have an axis of runs.
    """

    #: As `jdarts.search.images.SearchImages` has it.
    on_device = False

    def __init__(self, data: TaskData, devices: Devices, seeds: Sequence[int], *, stacked: bool = False) -> None:
        self._data, self._devices, self._seeds, self._stacked = data, devices, tuple(seeds), stacked
        for name, source in (("train", data.train), ("valid", data.valid)):
            if source is not None and not stacked and source.size % devices.count:
                raise InputError(
                    f"a batch of {name} has {source.size} examples, which {devices.count} devices cannot share equally; give a "
                    f"multiple of {devices.count}"
                )

    def epoch(self, rows: Callable[[], Any], epoch: int, calls: Sequence[range]) -> Iterator[tuple[Any, ...]]:
        """A batch of `train` and one of `valid` for each of calls of one step, as `jdarts.search.images.SearchImages` has it."""
        del rows
        return self.steps(epoch, calls[0].start, with_valid=True)

    def steps(self, epoch: int, first: int, *, with_valid: bool) -> Iterator[tuple[Any, ...]]:
        """The inputs of an epoch's steps: a batch of `train`, and one of `valid`.

        Args:
          epoch: counted from 0.
          first: index of the first step.
          with_valid: whether a step reads `valid`.

        Raises:
          InputError: `train` has fewer batches than steps.
        """
        train, valid, steps = self._data.train, self._data.valid, self._data.steps_per_epoch
        streams = [self._stream(train, lambda seed: train.whole(epoch, seed))]
        if with_valid and valid is not None:
            streams.append(self._stream(valid, lambda seed: valid.repeated(epoch, seed)))
        done = 0
        for done, batches in enumerate(itertools.islice(zip(*streams), steps), 1):
            if done > first:
                yield tuple(self._placed(source, batch) for source, batch in zip((train, valid), batches))
        if done < steps:
            raise InputError(
                f"train gives {done} whole batches in epoch {epoch}, and an epoch has {steps} steps; give as many in every "
                "epoch, or a smaller steps_per_epoch"
            )

    def evaluation(
        self,
        doing: str,
        source: Source,
        names: Sequence[str],
        scored: Callable[..., Any],
        compiled: Callable[..., Any],
        shapes: Any,
    ) -> Evaluation:
        """The means of loss and metrics over all batches of a part.

        Args:
          doing: what the display shows meanwhile.
          source: the part.
          names: of the numbers.
          scored: `(batch, count) -> [numbers]`, times the count.
          compiled: the same for batches that the devices share, compiled.
          shapes: shapes and types of the batches of `compiled`.
        """

        def sums(batch: Any, count: np.ndarray) -> Any:
            number = self._devices.replicate(count.astype(COUNT.dtype))
            if shapes_of(batch) != shapes:
                return scored(self._devices.replicate(batch), number)
            placed = self._devices.replicate(batch) if self._stacked else self._devices.split(self._shared(batch))
            return compiled(placed, number)

        def numbers(means: np.ndarray) -> dict[str, Any]:
            return dict(zip(names, np.moveaxis(means, -1, 0)))

        batches: Any = source.in_order()
        return Evaluation(doing, sums, batches, numbers)

    def _stream(self, source: Source, of_seed: Callable[[int], Iterator[Any]]) -> Iterator[Any]:
        """Batches in order; stacked over the seeds where they depend on them."""
        if not (self._stacked and source.takes_seed):
            return of_seed(self._seeds[0])
        each = zip(*(of_seed(seed) for seed in self._seeds))
        return (jax.tree.map(lambda *leaves: np.stack(leaves), *batches) for batches in each)

    def _placed(self, source: Source | None, batch: Any) -> Any:
        if self._stacked and source is not None and not source.takes_seed:
            return self._devices.replicate(batch)
        return self._devices.split(self._shared(batch))

    def _shared(self, batch: Any) -> Any:
        return jax.tree.map(self._devices.share, batch)


def _digest(batches: Any) -> str:
    """A digest of the first batches."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(batches):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return f"sha256:{digest.hexdigest()[:16]}"
