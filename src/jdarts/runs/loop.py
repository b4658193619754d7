"""The loop of every run: epochs of steps, with everything that a run shows, saves and leaves behind."""

import abc
import contextlib
import functools
import importlib.metadata
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TextIO, TypeVar

import jax
import numpy as np

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.files.json_data import Fields
from jdarts.report import MetricsLog, Progress
from jdarts.runs import processes
from jdarts.runs.folder import DATA, RunFolder
from jdarts.runs.interruption import Interruption
from jdarts.runs.memory import available_memory, check_state_fits
from jdarts.runs.programs import CompiledPrograms
from jdarts.runs.protocols import Fingerprint, Log, Setting, State, Summary
from jdarts.xla.allocator import return_freed_memory

_PACKAGES = ("jdarts", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


AnyState = TypeVar("AnyState", bound=State)
Functions = dict[str, Callable[..., Any]]


class EpochRun(abc.ABC, Generic[AnyState]):
    """One process's share of a run. A kind of run fills in the abstract methods; `go` is the loop around them.

    Args:
      config: the settings.
      folder: the run's folder.
      interruption: to be asked after each step whether to stop.
      fingerprint: what tells the run's data from others.
      steps_per_epoch: steps of an epoch.
      stream: where progress is shown; standard output by default.
      programs: compiled functions to share with other runs.

    Attributes:
      noun: what messages call this kind of run.
      shown: the metrics of a step that the live display shows, in order; those of `State.sums` among them.
      unit: what the speed on the display counts.
      latest: the checkpoint that the run goes on after, if there is one.
      display: the progress display, while `go` runs.
      functions: the compiled functions, while `go` runs; `step` at least.
    """

    noun: ClassVar[str]
    shown: ClassVar[tuple[str, ...]]
    unit: ClassVar[str] = "images"

    def __init__(
        self,
        config: Setting,
        folder: RunFolder,
        interruption: Interruption,
        *,
        fingerprint: Fingerprint,
        steps_per_epoch: int,
        stream: TextIO | None = None,
        programs: CompiledPrograms | None = None,
    ) -> None:
        self._setting = config
        self.folder = folder
        self.interruption = interruption
        self.fingerprint = fingerprint
        self.steps_per_epoch = steps_per_epoch
        self._stream = stream
        self._programs = programs or CompiledPrograms()
        self.latest: checkpoint.Checkpoint | None = None
        self.display: Progress
        self.functions: Functions

    @functools.cached_property
    def template(self) -> AnyState:
        """Shapes and types of the state."""
        return self.shapes()

    @property
    def units_per_step(self) -> int:
        """How many of `unit` a step reads."""
        return self._setting.batch_size

    @abc.abstractmethod
    def shapes(self) -> AnyState:
        """Shapes and types of the state."""

    @abc.abstractmethod
    def start(self) -> AnyState:
        """The state before the first step."""

    @abc.abstractmethod
    def opening(self, template: AnyState) -> str:
        """What a new run says at its start."""

    @abc.abstractmethod
    def program_key(self) -> Hashable:
        """What the compiled functions depend on."""

    @abc.abstractmethod
    def lowered(self, template: AnyState) -> dict[str, jax.stages.Lowered]:
        """The functions of the run, to be compiled; `step` takes the state and what `inputs` gives."""

    @abc.abstractmethod
    def inputs(self, state: AnyState, epoch: int, first: int) -> Iterator[tuple[Any, ...]]:
        """What the steps of an epoch take besides the state, from place `first` of the epoch on."""

    def take_step(self, state: AnyState, inputs: tuple[Any, ...]) -> tuple[AnyState, Mapping[str, Any]]:
        """One step with what `inputs` gave: the new state and metrics."""
        return self.functions["step"](state, *inputs)

    @abc.abstractmethod
    def evaluate(self, state: AnyState, epochs_ended: int) -> dict[str, float]:
        """Numbers of a completed epoch that its steps do not give, by names such as `evaluation/loss`."""

    def end_epoch(self, state: AnyState, evaluation: Mapping[str, float]) -> AnyState:
        """The state with which the next epoch begins, after an epoch's evaluation."""
        return state

    @abc.abstractmethod
    def record(self, state: AnyState) -> dict[str, Any]:
        """What a checkpoint holds for readers beside the arrays, in JSON data."""

    @abc.abstractmethod
    def epoch_files(self, state: AnyState, epoch: int, evaluation: Mapping[str, float]) -> None:
        """Writes what the run leaves behind after an epoch, before its checkpoint."""

    @abc.abstractmethod
    def close(self, state: AnyState, evaluation: Mapping[str, float]) -> Summary:
        """Writes what the run leaves behind at its end, the summary last."""

    def check_size(self) -> None:
        """Checks, before the run's folder is made, that its steps can be counted and its state held.

        Raises:
          InputError: more steps than 32 bits count, or a state that is larger than the memory.
        """
        most = (2**31 - 1) // self.steps_per_epoch
        if self._setting.epochs > most:
            raise InputError(
                f"--epochs is {self._setting.epochs} of {self.steps_per_epoch:,} steps each, and 2^31 steps cannot be counted; "
                f"give {most} or less"
            )
        check_state_fits(self.template, available_memory())

    def go(self) -> Any:
        """Runs to the end, after the newest whole checkpoint if there is one.

        Returns:
          The result of the summary.

        Raises:
          InputError: the folder cannot be written, the disk is full, or something was not finite.
          Interrupted: SIGINT or SIGTERM came; the state was saved first.
        """
        skipped: list[str] = []
        self.latest = self.newest(skipped)
        if self.latest:
            self.check_record(self.latest)
        first_step = self.latest.step if self.latest else 0
        # All have looked at the folder before one of them changes it.
        if (processes.most(first_step), processes.most(-first_step)) != (first_step, -first_step):
            raise InputError(
                f"the processes see different checkpoints in {self.folder.path}; give a --run-dir that they share"
            )
        self.started = self._last_save = time.monotonic()
        self.display = Progress(
            epochs=self._setting.epochs,
            steps_per_epoch=self.steps_per_epoch,
            batch_size=self.units_per_step,
            unit=self.unit,
            first_step=first_step,
            title=self.noun,
            stream=self._stream if processes.leads() else processes.silent(),
        )
        self.check_held()
        with self.display, self.open_log(first_step) as log:
            for text in skipped:
                self.display.message(f"skipped: {text}")
            self.remove_half_written()
            template = self.template
            self.display.message(self._first_line(template, lost=bool(skipped)))
            self.functions = self._programs.get(self.program_key(), lambda: self._compiled(template))
            return_freed_memory()
            for text in self.memory():
                self.display.message(text)
            state = self.load(template) if self.latest else self.start()
            if _number(state.step) != first_step:
                raise InputError(
                    f"the checkpoint of step {first_step} in {self.folder.path} holds step {_number(state.step)}; remove it to "
                    "resume from the one before, or choose another --run-dir"
                )
            found = self.close(*self._epochs(state, log))
            for line in found.lines():
                self.display.message(line)
            return found.result

    def compiler_options(self) -> dict[str, str | bool]:
        """Options of XLA for the functions."""
        return {}

    def memory(self) -> list[str]:
        """What is said of the memory of the compiled step."""
        return []

    def newest(self, skipped: list[str]) -> checkpoint.Checkpoint | None:
        """The checkpoint to go on after; `skipped` as in `checkpoint.newest`."""
        return checkpoint.newest(self.folder.checkpoints, skipped)

    def check_record(self, found: checkpoint.Checkpoint) -> None:
        """Checks what the run reads of a checkpoint's record.

        Raises:
          InputError: something is missing or of another kind.
        """
        try:
            self.read_record(Fields(found.record), found.step)
        except ValueError as error:
            raise InputError(
                f"{found.path} does not hold what this run needs ({checkpoint.RECORD}: {error}); remove it to resume from "
                "the one before, or choose another --run-dir"
            ) from None

    def read_record(self, record: Fields, step: int) -> None:
        """Reads what a run of this kind needs of a record, with a `ValueError` for what is wrong."""
        record.seconds("seconds")
        ended, per_epoch = record.count("epochs_ended"), self.steps_per_epoch
        if not ended * per_epoch <= step <= min(ended + 1, self._setting.epochs) * per_epoch:
            raise ValueError(f"{ended} epochs of {per_epoch} steps have not ended at step {step}")

    def check_held(self) -> None:
        """Raises an `InputError` if the run's folder is no longer the one that it began in."""
        self.folder.check_held()

    def remove_half_written(self) -> None:
        """Removes checkpoints that an interruption has left unfinished."""
        if processes.leads():
            checkpoint.remove_half_written(self.folder.checkpoints)

    def open_log(self, after_step: int) -> contextlib.AbstractContextManager[Log]:
        """Where the numbers of the run are written, without those after a step."""
        if not processes.leads():
            return contextlib.nullcontext(_NoLog())
        return MetricsLog(self.folder.path, after_step=after_step)

    def load(self, template: AnyState) -> AnyState:
        """The state of `latest`, where the compiled functions want it."""
        assert self.latest is not None
        return checkpoint.load(self.latest, template)

    def _first_line(self, template: AnyState, *, lost: bool) -> str:
        if self.latest:
            return f"going on with {self.folder.path} after step {self.latest.step:,}"
        again = "no whole checkpoint is left, so the run starts from the beginning: " if lost else ""
        return f"{again}{self.opening(template)}; run folder {self.folder.path}"

    def _compiled(self, template: AnyState) -> Functions:
        with self.display.waiting("compiling the step"):
            with self.interruption.stoppable():
                lowered = self.lowered(template)
            return self.interruption.wait_for(
                lambda: {name: each.compile(self.compiler_options()) for name, each in lowered.items()}
            )

    def _epochs(self, state: AnyState, log: Log) -> tuple[AnyState, dict[str, float]]:
        """All epochs that are still to be done: the state after them, and the last one's evaluation."""
        evaluation: dict[str, float] = {}
        ended = self.latest.record["epochs_ended"] if self.latest else 0
        for epoch in range(ended, self._setting.epochs):
            state = self._steps(state, epoch, log)
            evaluation = self._evaluation(state, epoch)
            state = self.end_epoch(state, evaluation)
            self._end_epoch(state, epoch, evaluation, log)
        if ended == self._setting.epochs:
            evaluation = self._evaluation(state, ended)
        return state, evaluation

    def _steps(self, state: AnyState, epoch: int, log: Log) -> AnyState:
        """The steps of an epoch that are still to be done."""
        start, end = epoch * self.steps_per_epoch, (epoch + 1) * self.steps_per_epoch
        done = _number(state.step)
        if done == end:
            return state
        for inputs in self.inputs(state, epoch, done - start):
            state, metrics = self.take_step(state, inputs)
            done += 1
            values = None
            if done % self._setting.log_every == 0 or done == start + 1 or done == end:
                values = processes.fetched(dict(metrics))
                self.check_finite(state)
                self.check_held()
                log.write(done, values)
            self.display.step(done, None if values is None else _shown({name: values[name] for name in self.shown}))
            # Several processes agree on when to stop and to save; that takes a moment, so that they do not ask at every step.
            if not processes.alone() and values is None:
                continue
            self.stop_if_asked(state, epoch)
            due = time.monotonic() - self._last_save >= 60 * self._setting.checkpoint_minutes
            # The end of the epoch saves by itself.
            if done < end and processes.most(int(due)):
                with self.display.pause("saving"):
                    self._save(state, epoch)
        return state

    def _evaluation(self, state: AnyState, epochs_ended: int) -> dict[str, float]:
        self.check_finite(state)
        return self.evaluate(state, epochs_ended)

    def means(
        self,
        function: Callable[..., Any],
        batches: Iterable[tuple[Any, Any, Any]],
        *,
        state: AnyState,
        epochs_ended: int,
    ) -> np.ndarray:
        """Means over images or words, with a chance to stop after each batch.

        Args:
          function: `(images, labels, mask)` to sums over what the mask counts; words and their targets likewise.
          batches: images, labels, mask.
          state: what is saved where the run is asked to stop.
          epochs_ended: epochs that have ended with that state.

        Returns:
          The sums of all batches divided by how many the masks count.
        """
        sums, counted = np.zeros(()), 0
        for batch in batches:
            sums = sums + np.array(processes.fetched(function(*batch)), np.float64)
            counted += int(np.sum(batch[-1]))
            if processes.alone():
                self.stop_if_asked(state, epochs_ended)
        return sums / counted

    def _end_epoch(self, state: AnyState, epoch: int, evaluation: Mapping[str, float], log: Log) -> None:
        sums = processes.fetched(dict(state.sums))
        means = {name: np.float64(sums[name]) / self.steps_per_epoch for name in self.shown if name in sums}
        record = {f"epoch/{name.replace('/', '_')}": value for name, value in (means | dict(evaluation)).items()}
        self.check_held()
        log.write_epoch((epoch + 1) * self.steps_per_epoch, record, epoch + 1)
        self.epoch_files(state, epoch + 1, evaluation)
        with self.display.pause("saving"):
            path = self._save(state, epoch + 1)
        self.display.epoch_end(epoch + 1, _shown(means | dict(evaluation)))
        self.stop_if_asked(state, epoch + 1, saved=path)

    def stop_if_asked(self, state: AnyState, epochs_ended: int, saved: Path | None = None) -> None:
        """Saves, says so and raises `Interrupted` if a signal has come, to any of the processes."""
        asked = processes.most(self.interruption.signal or 0)
        if asked:
            self.interruption.signal = asked
            path = saved or self._save(state, epochs_ended)
            self.display.message(f"saved {path}; the same command goes on from there")
            self.interruption.check()

    def _save(self, state: AnyState, epochs_ended: int) -> Path:
        self.check_finite(state)
        path = self.save(state, epochs_ended)
        self._last_save = time.monotonic()
        return path

    def save(self, state: AnyState, epochs_ended: int) -> Path:
        """Writes a checkpoint of a state without numbers that are not finite."""
        return self.save_to(self.folder.checkpoints, state, epochs_ended, keep=self._setting.keep_checkpoints)

    def save_to(self, folder: Path, state: AnyState, epochs_ended: int, *, keep: int) -> Path:
        """Writes a checkpoint of the state into a folder of checkpoints; arguments as for `checkpoint.save`."""
        record = {
            "format": checkpoint.FORMAT,
            "epochs_ended": epochs_ended,
            "seconds": self.seconds(),
            "config": self._setting.to_json(),
            DATA: self.fingerprint,
            **self.record(state),
            "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        }
        with self.folder.writing():
            return checkpoint.save(folder, int(state.step), state, record, keep=keep)

    def seconds(self) -> float:
        """Time that the run has taken, the shares of earlier processes included."""
        earlier = self.latest.record["seconds"] if self.latest else 0.0
        return earlier + time.monotonic() - self.started

    def check_finite(self, state: AnyState) -> None:
        """Raises an `InputError` if something was not finite at some step."""
        self.refuse_not_finite(int(state.not_finite_at))

    def refuse_not_finite(self, step: int) -> None:
        """Raises an `InputError` if a first step with something that is not finite is above 0."""
        if step > 0:
            kept = checkpoint.newest(self.folder.checkpoints, [])
            last = f"the last good checkpoint is {kept.path}" if kept else "there is no checkpoint yet"
            raise InputError(
                f"a loss, a gradient or a weight was not finite at step {step} (epoch "
                f"{(step - 1) // self.steps_per_epoch + 1}); the {self.noun} has stopped, {last}. Start another "
                "--run-dir with a lower --learning-rate or --clip"
            )


class _NoLog:
    """The log of a process that writes none."""

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes nothing."""

    def write_epoch(self, step: int, values: Mapping[str, Any], number: int) -> None:
        """Writes nothing."""


def _number(value: Any) -> int:
    """A number that all runs of a batch of runs have in common."""
    return int(np.max(processes.fetched(value)))


def _shown(values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers for the display: means, where there is one for each of several runs."""
    return {name: float(np.mean(value)) for name, value in values.items()}
