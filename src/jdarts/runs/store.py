"""The checkpoints and logs of a run, in its folder, or of several stacked runs, in theirs."""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.report import MetricsLog
from jdarts.report.loggers import LoggerName
from jdarts.report.metrics import METRICS_FILE, read_metrics
from jdarts.runs import processes
from jdarts.runs.batched import numbers_of_one, stacked, template_of_one
from jdarts.runs.folder import Fingerprint, RunFolder
from jdarts.runs.task import Task

#: Folder of the best checkpoint, in a run's folder.
BEST = "best"


class Part(NamedTuple):
    """One run of a store.

    Attributes:
      folder: its folder.
      settings: the settings that decide its result, as JSON data.
      title: title of its drawings; None for none.
      name: its name among the runs of the store.
    """

    folder: RunFolder
    settings: Mapping[str, Any]
    title: str | None = None
    name: str = ""


class Log(Protocol):
    """Where the numbers of a run are written: a `MetricsLog` for each run."""

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends the numbers of a step."""
        ...

    def write_epoch(self, step: int, values: Mapping[str, Any], number: int) -> None:
        """Appends the numbers of an epoch, counted from 1, unless the file has them."""
        ...

    def write_cells(
        self, index: int, step: int, epoch: int, alphas: Mapping[str, Any], picture: Callable[[], bytes] | None
    ) -> None:
        """Logs the cells and alphas of one run's epoch, as `MetricsLog.write_cells`."""
        ...


class Store:
    """The folder of a single run, or the folders of several stacked runs, whose checkpoints belong together.

    Args:
      parts: the runs, in the order in which their states are stacked.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._without_counterpart: list[checkpoint.Checkpoint] = []

    @property
    def path(self) -> Path:
        """The folder that messages name: that of the run, or the parent of several."""
        path = self.parts[0].folder.path
        return path if len(self.parts) == 1 else path.parent

    @contextlib.contextmanager
    def lock(self, fingerprint: Fingerprint) -> Iterator[None]:
        """Locks all folders for this process, as `RunFolder.lock`."""
        with contextlib.ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.folder.lock(part.settings, fingerprint))
            yield

    def check_unchanged(self) -> None:
        """Raises an `InputError` if a folder is no longer the one that was locked."""
        for part in self.parts:
            part.folder.check_unchanged()

    def newest(self, skipped: list[str]) -> tuple[checkpoint.Checkpoint, ...]:
        """The newest complete checkpoints of one step, one of each run; none if the run starts from the beginning.

        Args:
          skipped: as for `checkpoint.newest`.

        Raises:
          InputError: the runs have checkpoints of different steps.
        """
        found = [checkpoint.newest(part.folder.checkpoints, skipped) for part in self.parts]
        newest = [each.step if each else 0 for each in found]
        # If the process died between the checkpoints of one step, all folders still have the earlier ones.
        while len(steps := {each.step if each else 0 for each in found}) > 1 and min(steps) > 0:
            found = [_up_to(min(steps), part, each, skipped) for part, each in zip(self.parts, found)]
        there = [each for each in found if each]
        self._without_counterpart = []
        if len(there) < len(self.parts) and there:
            if not self._stopped_between_first_checkpoints():
                raise self._different_steps(newest)
            self._without_counterpart, there = there, []
            skipped += [
                f"checkpoint {each.path} has no counterpart of every seed" for each in self._without_counterpart
            ]
        return tuple(there)

    def _stopped_between_first_checkpoints(self) -> bool:
        """Whether the runs were stacked up to their first checkpoint: their logs then have the same steps."""
        first, *others = (_logged_steps(part.folder) for part in self.parts)
        once = all(len(checkpoint.steps(part.folder.checkpoints)) <= 1 for part in self.parts)
        return once and bool(first) and all(steps == first for steps in others)

    def _different_steps(self, steps: Sequence[int]) -> InputError:
        listed = ", ".join(f"{part.name} step {step:,}" for part, step in zip(self.parts, steps))
        return InputError(
            f"the searches have reached different steps ({listed}) and cannot resume together; resume each with --seed, or "
            "choose another --run-dir"
        )

    def change(self, found: Sequence[checkpoint.Checkpoint]) -> None:
        """Gives the runs the epochs of their settings, if those are more than they had, and the size of a batch.

        Args:
          found: the checkpoints with which they resume.

        Raises:
          InputError: a finished run has no checkpoint left, or a folder cannot be written.
        """
        for part in self.parts:
            if part.folder.has_ended and not found:
                raise InputError(
                    f"{part.folder.path} has finished, and has no checkpoint with which it could be extended; choose another "
                    "--run-dir"
                )
            part.folder.change()

    def remove_half_written(self) -> None:
        """Removes incomplete checkpoints."""
        if processes.is_coordinator():
            for part in self.parts:
                checkpoint.remove_half_written(part.folder.checkpoints)
                checkpoint.remove_half_written(part.folder.path / BEST)

    @contextlib.contextmanager
    def open_log(self, after_step: int, loggers: Sequence[LoggerName]) -> Iterator[Log]:
        """Opens the log of the run, with these loggers, and removes the numbers after a step from it."""
        if not processes.is_coordinator():
            yield _Logs([])
            return
        # Before the logs are cut: from the steps in them, a later process recognises these checkpoints as orphans.
        for each in self._without_counterpart:
            shutil.rmtree(each.path)
        with contextlib.ExitStack() as stack:
            logs = [
                stack.enter_context(
                    MetricsLog(part.folder.path, after_step=after_step, loggers=loggers, settings=part.settings)
                )
                for part in self.parts
            ]
            yield _Logs(logs)

    def load(self, found: Sequence[checkpoint.Checkpoint], task: Task[Any]) -> Any:
        """The state of checkpoints of one step, placed as the compiled functions take it."""
        template, devices = template_of_one(task), task.devices
        states = [devices.load(each, template) for each in found]
        return states[0] if task.runs is None else devices.split_results(stacked)(*states)

    def at(self, step: int) -> tuple[checkpoint.Checkpoint, ...]:
        """The checkpoints of a step, one of each run.

        Raises:
          InputError: one is missing or damaged.
        """
        return tuple(checkpoint.read(checkpoint.path_of(part.folder.checkpoints, step)) for part in self.parts)

    def load_at(self, step: int, task: Task[Any]) -> Any:
        """The state after a step; errors as for `at`."""
        return self.load(self.at(step), task)

    def remove_after(self, step: int) -> None:
        """Removes the checkpoints of later steps, the newest first."""
        if processes.is_coordinator():
            for part in self.parts:
                for later in checkpoint.steps(part.folder.checkpoints):
                    if later > step:
                        shutil.rmtree(checkpoint.path_of(part.folder.checkpoints, later))

    def check_finite(self, state: Any, task: Task[Any]) -> None:
        """Raises an `InputError` if a value of a run was not finite at some step; it names the last good checkpoint."""
        for part, step in zip(self.parts, np.atleast_1d(processes.fetch(state.not_finite_at))):
            if step > 0:
                kept = checkpoint.newest(part.folder.checkpoints, [])
                last = f"the last good checkpoint is {kept.path}" if kept else "there is no checkpoint yet"
                raise InputError(
                    f"a loss, a gradient or a weight was not finite at step {step} (epoch "
                    f"{int(task.epoch_steps.epoch(step - 1)) + 1}); the {task.noun} has stopped, {last}. Start another --run-dir "
                    "with a lower --learning-rate or --clip"
                )


class _Logs:
    """The metrics files of the runs; none in processes other than the coordinator."""

    def __init__(self, logs: Sequence[MetricsLog]) -> None:
        self._logs = logs

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends to each file its run's numbers; each is `[runs]`, or one that all share."""
        for index, log in enumerate(self._logs):
            log.write(step, numbers_of_one(values, index))

    def write_epoch(self, step: int, values: Mapping[str, Any], number: int) -> None:
        """Appends to each file its run's numbers of an epoch, unless the file has them."""
        for index, log in enumerate(self._logs):
            log.write_epoch(step, numbers_of_one(values, index), number)

    def write_cells(
        self, index: int, step: int, epoch: int, alphas: Mapping[str, Any], picture: Callable[[], bytes] | None
    ) -> None:
        """Gives the cells and alphas of the run with this index to its log."""
        if self._logs:
            self._logs[index].write_cells(step, epoch, alphas, picture)


def _up_to(
    step: int, part: Part, found: checkpoint.Checkpoint | None, skipped: list[str]
) -> checkpoint.Checkpoint | None:
    if found is None or found.step <= step:
        return found
    return checkpoint.newest(part.folder.checkpoints, skipped, up_to=step)


def _logged_steps(folder: RunFolder) -> list[int]:
    if not (folder.path / METRICS_FILE).exists():
        return []
    return [record["step"] for record in read_metrics(folder.path)]
