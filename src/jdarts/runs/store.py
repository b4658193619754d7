"""Where a run's checkpoints and logs live: one folder, or the folders of several runs that are stacked as one."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.report import MetricsLog
from jdarts.report.metrics import METRICS_FILE, read_metrics
from jdarts.runs import processes
from jdarts.runs.batched import numbers_of_one, stacked, template_of_one
from jdarts.runs.folder import Fingerprint, RunFolder
from jdarts.runs.task import Task

#: Folder of the best checkpoint, in a run's folder.
BEST = "best"


class Part(NamedTuple):
    """One of the runs that a store holds.

    Attributes:
      folder: its folder.
      settings: the settings that decide its result, as JSON data.
      title: what is written above its drawings; None for nothing.
      name: what tells it from the other runs of the store.
    """

    folder: RunFolder
    settings: Mapping[str, Any]
    title: str | None = None
    name: str = ""


class Log(Protocol):
    """Where the numbers of a run are written: `MetricsLog`, or several."""

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends the numbers of a step."""
        ...

    def write_epoch(self, step: int, values: Mapping[str, Any], number: int) -> None:
        """Appends the numbers of an epoch, counted from 1, unless they are there."""
        ...


class Store:
    """The folders of the runs that are one: of a single run, or of several, whose checkpoints belong together.

    Args:
      parts: the runs, in the order in which their states are stacked.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._without_counterpart: list[checkpoint.Checkpoint] = []

    @property
    def path(self) -> Path:
        """The folder that messages name: that of the run, or that of the runs' folders."""
        path = self.parts[0].folder.path
        return path if len(self.parts) == 1 else path.parent

    @contextlib.contextmanager
    def taken(self, fingerprint: Fingerprint) -> Iterator[None]:
        """Takes all folders for this process, as `RunFolder.taken`."""
        with contextlib.ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.folder.taken(part.settings, fingerprint))
            yield

    def check_unchanged(self) -> None:
        """Raises an `InputError` if a folder is no longer the one that the run began in."""
        for part in self.parts:
            part.folder.check_unchanged()

    def newest(self, skipped: list[str]) -> tuple[checkpoint.Checkpoint, ...]:
        """The newest whole checkpoints of one step, one of each run; none where the run starts from the beginning.

        Args:
          skipped: as for `checkpoint.newest`.

        Raises:
          InputError: the runs have checkpoints of different steps.
        """
        found = [checkpoint.newest(part.folder.checkpoints, skipped) for part in self.parts]
        newest = [each.step if each else 0 for each in found]
        # A death between the checkpoints of one step leaves the ones before it in all folders.
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
        """Whether the runs have run as one up to their first checkpoint: their logs then have the same steps."""
        first, *others = (_logged_steps(part.folder) for part in self.parts)
        once = all(len(checkpoint.steps(part.folder.checkpoints)) <= 1 for part in self.parts)
        return once and bool(first) and all(steps == first for steps in others)

    def _different_steps(self, steps: Sequence[int]) -> InputError:
        listed = ", ".join(f"{part.name} step {step:,}" for part, step in zip(self.parts, steps))
        return InputError(
            f"the searches have reached different steps ({listed}) and cannot resume as one; resume each by --seed, or choose "
            "another --run-dir"
        )

    def remove_half_written(self) -> None:
        """Removes checkpoints that an interruption has left unfinished."""
        if processes.is_coordinator():
            for part in self.parts:
                checkpoint.remove_half_written(part.folder.checkpoints)
                checkpoint.remove_half_written(part.folder.path / BEST)

    @contextlib.contextmanager
    def open_log(self, after_step: int) -> Iterator[Log]:
        """Where the numbers of the run are written, without those after a step."""
        if not processes.is_coordinator():
            yield _Logs([])
            return
        # Before the logs are cut: with their steps, a later process recognises these checkpoints as belonging to nothing.
        for each in self._without_counterpart:
            shutil.rmtree(each.path)
        with contextlib.ExitStack() as stack:
            logs = [stack.enter_context(MetricsLog(part.folder.path, after_step=after_step)) for part in self.parts]
            yield _Logs(logs)

    def load(self, found: Sequence[checkpoint.Checkpoint], task: Task[Any]) -> Any:
        """The state of checkpoints of one step, where the compiled functions want it."""
        template, devices = template_of_one(task), task.devices
        states = [devices.load(each, template) for each in found]
        return states[0] if task.runs is None else devices.split_results(stacked)(*states)

    def load_at(self, step: int, task: Task[Any]) -> Any:
        """The state after a step, of which each run has a checkpoint.

        Raises:
          InputError: one is missing or damaged.
        """
        paths = [checkpoint.path_of(part.folder.checkpoints, step) for part in self.parts]
        return self.load([checkpoint.read(path) for path in paths], task)

    def check_finite(self, state: Any, task: Task[Any]) -> None:
        """Raises an `InputError` if something of a run was not finite at some step; it names the last good checkpoint."""
        for part, step in zip(self.parts, np.atleast_1d(processes.fetched(state.not_finite_at))):
            if step > 0:
                kept = checkpoint.newest(part.folder.checkpoints, [])
                last = f"the last good checkpoint is {kept.path}" if kept else "there is no checkpoint yet"
                raise InputError(
                    f"a loss, a gradient or a weight was not finite at step {step} (epoch "
                    f"{(step - 1) // task.steps_per_epoch + 1}); the {task.noun} has stopped, {last}. Start another --run-dir "
                    "with a lower --learning-rate or --clip"
                )


class _Logs:
    """The metrics files of the runs; none where this process writes none."""

    def __init__(self, logs: Sequence[Log]) -> None:
        self._logs = logs

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends to each file its run's numbers: `[runs]`, or one that all share."""
        for place, log in enumerate(self._logs):
            log.write(step, numbers_of_one(values, place))

    def write_epoch(self, step: int, values: Mapping[str, Any], number: int) -> None:
        """Appends to each file its run's numbers of an epoch, unless they are there."""
        for place, log in enumerate(self._logs):
            log.write_epoch(step, numbers_of_one(values, place), number)


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
