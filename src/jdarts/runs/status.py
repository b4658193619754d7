"""The progress of a run, in the record of each checkpoint."""

import dataclasses
import functools
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.files.json_data import Fields
from jdarts.methods.stopping import Epoch, RollBack, Stop, StoppingRule
from jdarts.runs.changes import DEVICES, Change, new_changes, read_changes, setting_of
from jdarts.runs.epoch_steps import EpochSteps, epoch_steps
from jdarts.runs.same_run import BATCH_SIZE, DATA
from jdarts.runs.summaries import read_stop
from jdarts.runs.task import Task

_PACKAGES = ("jdarts", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """The progress of a run.

    Attributes:
      epochs_ended: number of finished epochs.
      seconds: time that the run has taken.
      best: `step` and score of the best epoch; None if the run keeps none, or has none yet.
      history: the finished epochs, if a stopping rule reads them.
      stopped: why a stopping rule has ended the run; None if none has.
      rollbacks: the times that a stopping rule has started it again from an earlier epoch: reason, the epoch after which, the
        epoch itself and the new controls, JSON data.
      changes: what has changed on its way.
    """

    epochs_ended: int = 0
    seconds: float = 0.0
    best: Mapping[str, Any] | None = None
    history: tuple[Epoch, ...] = ()
    stopped: Stop | None = None
    rollbacks: tuple[Mapping[str, Any], ...] = ()
    changes: tuple[Change, ...] = ()

    def with_epoch(self, epoch: Epoch) -> "RunStatus":
        """The progress with one more epoch in the history."""
        return dataclasses.replace(self, history=(*self.history, epoch))

    def decision(self, rule: StoppingRule, epochs: int) -> Stop | RollBack | None:
        """What a stopping rule decides after the last epoch of the history, in a run of so many epochs."""
        is_asked = rule.after_last or self.epochs_ended < epochs
        return rule.decide(self.history) if is_asked else None

    def rolled_back(self, decision: RollBack) -> "RunStatus":
        """The progress at the epoch from which a run starts again."""
        again = {"reason": decision.reason, "after": self.epochs_ended, "epoch": decision.epoch, **decision.controls}
        return dataclasses.replace(
            self,
            epochs_ended=decision.epoch,
            history=self.history[: decision.epoch],
            rollbacks=(*self.rollbacks, again),
        )

    def epochs_to_keep(self, rule: StoppingRule | None) -> range:
        """The epochs to which a rule may roll back after the next epoch or a later one: their checkpoints stay."""
        if rule is None or self.stopped is not None:
            return range(0)
        return range(max(self.epochs_ended + 1 - rule.reach, 1), self.epochs_ended + 1)

    def record(self, task: Task[Any], state: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The record of a checkpoint, JSON data.

        Args:
          task: what the run does.
          state: the state of the checkpoint, of one run.
          settings: the settings that decide the result.
        """
        record = {
            "format": checkpoint.FORMAT,
            "epochs_ended": self.epochs_ended,
            "seconds": self.seconds,
            "config": settings,
            DATA: task.fingerprint,
            DEVICES: _sharing_devices(task),
            **task.record(state),
        }
        if task.best is not None:
            record["best"] = self.best
        if self.history:
            record["history"] = [epoch._asdict() for epoch in self.history]
        if self.rollbacks:
            record["rollbacks"] = list(self.rollbacks)
        if self.changes:
            record["changes"] = [change._asdict() for change in self.changes]
        if self.stopped is not None:
            record["stopped"] = self.stopped._asdict()
        return record | {"versions": _versions()}


@functools.cache
def _versions() -> dict[str, str]:
    """The versions of the packages that decide a run's numbers. Each is read from a file."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def epochs_of(task: Task[Any], batch_size: Any, changes: Sequence[Change]) -> EpochSteps:
    """The epochs of a run in steps, with other batches before a change.

    Args:
      task: what the run does.
      batch_size: the size of a batch now, or a value of a record in its place.
      changes: what the run has changed on its way.
    """
    if task.examples is None or not isinstance(batch_size, int) or batch_size < 1:
        return task.epoch_steps
    return epoch_steps(task.examples, batch_size, changes)


def read_status(found: checkpoint.Checkpoint, task: Task[Any], settings: Mapping[str, Any]) -> RunStatus:
    """Reads the progress of a run from the record of a checkpoint, and adds what its settings change from there on.

    Args:
      found: the checkpoint.
      task: what the run does.
      settings: the settings that decide the result.

    Raises:
      InputError: a field is missing or has another type, or a change would make it another run.
    """
    status = recorded_status(found, task)
    new = new_changes(found.record, found.step, settings, _sharing_devices(task), noun=task.noun)
    return dataclasses.replace(status, changes=(*status.changes, *new))


def recorded_status(found: checkpoint.Checkpoint, task: Task[Any]) -> RunStatus:
    """The progress in the record of a checkpoint; an `InputError` if a field is missing or has another type."""
    try:
        return _status(found.record, found.step, task)
    except ValueError as error:
        raise InputError(
            f"{found.path} does not hold what this run needs ({checkpoint.RECORD}: {error}); remove it to resume from "
            "the one before, or choose another --run-dir"
        ) from None


def _sharing_devices(task: Task[Any]) -> int:
    """Number of devices that share a batch of one run."""
    return task.devices.count if task.runs is None else 1


def _status(raw: Mapping[str, Any], step: int, task: Task[Any]) -> RunStatus:
    record = Fields(raw)
    ended, changes = record.count("epochs_ended"), read_changes(record)
    epochs = epochs_of(task, setting_of(raw, BATCH_SIZE), changes)
    if not epochs.before(ended) <= step <= epochs.before(min(ended + 1, task.options.epochs)):
        raise ValueError(f"{ended} epochs of {epochs.last_length} steps have not ended at step {step}")
    best = None
    if task.best is not None:
        best = record.optional(lambda name: Fields(record.get(name)), "best")
        if best:
            best = {"step": best.count("step"), (name := best_name(task.best)): best.number(name)}
    history: tuple[Epoch, ...] = ()
    if task.stopping is not None and ended:
        history = tuple(_epoch(Fields(each)) for each in _listed(record.get("history"), ended))
    rollbacks = record.listed("rollbacks") if record.has("rollbacks") else []
    return RunStatus(ended, record.seconds("seconds"), best, history, read_stop(record), tuple(rollbacks), changes)


def best_name(number: str) -> str:
    """The name under which a record holds the best value of a number: `valid_accuracy` of `valid/accuracy`."""
    return number.replace("/", "_")


def _listed(value: Any, count: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"history is no list of {count} epochs")
    return value


def _epoch(fields: Fields) -> Epoch:
    numbers, facts = Fields(fields.get("numbers")), Fields(fields.get("facts"))
    return Epoch(
        fields.count("number"),
        {name: numbers.number(name) for name in numbers.names},
        {name: facts.get(name) for name in facts.names},
    )
