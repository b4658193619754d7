"""Where a run resumes: its checkpoints, its progress, and the steps of its epochs."""

from collections.abc import Mapping
from typing import Any, Generic, NamedTuple

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.runs import processes
from jdarts.runs.changes import setting_of
from jdarts.runs.same_run import BATCH_SIZE
from jdarts.runs.status import RunStatus, epochs_of, read_status, recorded_status
from jdarts.runs.store import Store
from jdarts.runs.task import S, Task


class Resumed(NamedTuple, Generic[S]):
    """A run at its start in this process.

    Attributes:
      task: what it does, with the steps of all its epochs.
      found: its checkpoints, one of each stacked run; none if it starts from the beginning.
      statuses: the progress of each stacked run.
      step: the number of steps that it has done.
    """

    task: Task[S]
    found: tuple[checkpoint.Checkpoint, ...]
    statuses: list[RunStatus]
    step: int


def resumed(task: Task[S], store: Store, skipped: list[str]) -> Resumed[S]:
    """Reads where a run resumes, and gives its folders the settings that this process changes.

    Args:
      task: what the run does.
      store: its checkpoints.
      skipped: as for `Store.newest`.

    Raises:
      InputError: a checkpoint does not fit, a change is not possible there, the processes see different checkpoints, or a
        folder cannot be written.
    """
    newest = store.newest(skipped)
    found = _resumable(newest, task, store)
    statuses = [RunStatus() for _ in store.parts]
    if found:
        statuses = [read_status(each, task, part.settings) for each, part in zip(found, store.parts)]
        task = task.with_epoch_steps(epochs_of(task, task.units_per_step, statuses[0].changes))
    step = found[0].step if found else 0
    # Every process reads the folder before any changes it.
    if (processes.maximum(step), processes.maximum(-step)) != (step, -step):
        raise InputError(f"the processes see different checkpoints in {store.path}; give a --run-dir that they share")
    store.change(found)
    if newest and newest[0].step > step:
        store.remove_after(step)
    return Resumed(task, found, statuses, step)


def _resumable(
    newest: tuple[checkpoint.Checkpoint, ...], task: Task[Any], store: Store
) -> tuple[checkpoint.Checkpoint, ...]:
    """The checkpoints to resume from: the newest, or those of the last end of an epoch if the batches change there."""
    if not newest:
        return newest
    step = resumable_step(newest[0], task, store.parts[0].settings)
    if step == newest[0].step:
        return newest
    try:
        return store.at(step)
    except InputError as error:
        raise InputError(
            f"another --batch-size begins with an epoch, and the checkpoint of its start is not there: {error}. End the "
            "epoch with the old --batch-size first, or choose another --run-dir"
        ) from None


def resumable_step(found: checkpoint.Checkpoint, task: Task[Any], settings: Mapping[str, Any]) -> int:
    """The step from which a run resumes: that of its newest checkpoint, or the end of its last epoch if its batches change there.

    Args:
      found: the newest checkpoint.
      task: what the run does.
      settings: the settings that decide the result.

    Raises:
      InputError: the batches change, and the run has no epoch left or has not ended one, its data come in batches, or its
        stopping rule may roll back.
    """
    before, now = setting_of(found.record, BATCH_SIZE), settings.get(BATCH_SIZE)
    if before is None or before == now:
        return found.step
    if task.examples is None:
        raise InputError(
            f"--batch-size is {now}, and this {task.noun} cannot change its batches of {before} on its way; give --batch-size "
            f"{before}, or choose another --run-dir"
        )
    if task.stopping is not None and task.stopping.changes:
        raise InputError(
            f"--batch-size is {now}, and --stop may roll this {task.noun} back to an epoch with batches of {before}; give "
            f"--batch-size {before}, or choose another --run-dir"
        )
    status = recorded_status(found, task)
    if status.stopped is not None or status.epochs_ended >= task.options.epochs:
        raise InputError(
            f"--batch-size is {now}, and all epochs of this {task.noun} are over, with {before}; give --batch-size {before}, or "
            "more --epochs with --extend"
        )
    if not status.epochs_ended:
        raise InputError(
            f"--batch-size is {now}, and another one begins with an epoch, but this {task.noun} has not ended its first one with "
            f"{before}; give --batch-size {before}, or choose another --run-dir"
        )
    return epochs_of(task, before, status.changes).before(status.epochs_ended)
