"""The loop of every run: steps and epochs of a task, with display, logs, checkpoints and results."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic

import numpy as np

from jdarts import checkpoint
from jdarts.bilevel.foresight import CORRELATION, SLOPE
from jdarts.errors import InputError
from jdarts.genotype import AnyGenotype
from jdarts.methods.stopping import EIGENVALUE, Epoch, RollBack, Stop
from jdarts.report import Progress
from jdarts.report.drawing import cells_picture
from jdarts.runs import processes
from jdarts.runs.batched import numbers_of_one
from jdarts.runs.calls import program_of_several
from jdarts.runs.context import Context
from jdarts.runs.ending import write_drawings, write_page
from jdarts.runs.folder import mixture_file
from jdarts.runs.interruption import Interrupted
from jdarts.runs.memory import StepMemory, step_memory, step_memory_lines
from jdarts.runs.programs import Compiler, Compiling
from jdarts.runs.resuming import resumed
from jdarts.runs.status import RunStatus, best_name
from jdarts.runs.store import BEST, Log, Part
from jdarts.runs.summaries import Summary, stop_text, write_summary
from jdarts.runs.task import End, Evaluation, Functions, Program, S, Task
from jdarts.xla.allocator import return_freed_memory
from jdarts.xla.tracing import without_garbage_collection


class Loop(Generic[S]):
    """The loop of a run, or of several stacked runs, in one process.

    Args:
      task: what the run does.
      context: what it needs besides.
    """

    def __init__(self, task: Task[S], context: Context) -> None:
        self._task = task
        self._context = context
        self._store = context.store
        # The progress of each run.
        self._statuses: list[RunStatus]
        # The checkpoint of the current state, if there is one.
        self._saved: Path | None = None
        self._functions: Functions
        # Of the program that needs most.
        self._memory: StepMemory | None
        self._display: Progress

    def run(self) -> tuple[Summary[Any], ...]:
        """Runs to the end, from the newest complete checkpoint if there is one.

        Returns:
          The summary of each run.

        Raises:
          InputError: the folder cannot be written, the disk is full, or something was not finite.
          Interrupted: SIGINT or SIGTERM came, or the time limit is over; the state was saved first.
        """
        store = self._store
        skipped: list[str] = []
        self._task, found, self._statuses, first_step = resumed(self._task, store, skipped)
        task = self._task
        self._earlier = [status.seconds for status in self._statuses]
        self._started = self._last_save = self._context.clock()
        # The display counts steps as if all epochs were as long as the last ones.
        last = task.epoch_steps.spans[-1]
        self._not_shown = last.step - last.epoch * last.length
        self._display = Progress(
            epochs=task.options.epochs,
            steps_per_epoch=task.steps_per_epoch,
            batch_size=task.units_per_step,
            unit=task.unit,
            first_step=first_step - self._not_shown,
            title=task.noun,
            stream=self._context.stream if processes.is_coordinator() else processes.null_stream(),
        )
        store.check_unchanged()
        with self._display, contextlib.ExitStack() as logs:
            log = logs.enter_context(store.open_log(first_step, task.options.log))
            for text in skipped:
                self._display.message(f"skipped: {text}")
            store.remove_half_written()
            self._display.message(self._first_line(first_step, lost=bool(skipped)))
            for change in self._statuses[0].changes:
                self._display.message(str(change))
            needed = task.needed_programs(first_step)
            self._functions, self._memory = self._context.programs.get(
                (task.key, *needed), lambda: self._compiled(needed)
            )
            for text in step_memory_lines(self._memory, task.memory_options, devices=task.devices.local_count):
                self._display.message(text)
            state = store.load(found, task) if found else task.initial(self._functions)
            self._check_loaded(state, first_step)
            self._saved = found[0].path if found else None
            state, numbers = self._epochs(state, log)
            while numbers is None:
                logs.close()
                log = logs.enter_context(store.open_log(_number(state.step), task.options.log))
                state, numbers = self._epochs(state, log)
            return self._end(state, numbers)

    def _first_line(self, first_step: int, *, lost: bool) -> str:
        if first_step:
            return f"resuming {self._store.path} after step {first_step:,}"
        again = "no complete checkpoint is left, so the run starts from the beginning: " if lost else ""
        return f"{again}{self._task.description}; run folder {self._store.path}"

    def _compiled(self, needed: Mapping[str, Program]) -> tuple[Functions, StepMemory | None]:
        """The programs, and the memory of the largest; the first step does not wait for those that it does not need."""
        task, interruption = self._task, self._context.interruption
        several = program_of_several(task.largest)
        largest = several if several in needed else task.largest
        first = [name for name, program in needed.items() if program.needed_for_first_step or name == largest]
        programs: Functions = {}
        with self._display.waiting("compiling the step"):
            with (
                Compiler(task.compiler_options) as compiler,
                interruption.interruptible(),
                without_garbage_collection(),
            ):
                for name in sorted(needed, key=lambda name: name not in first):
                    programs[name] = compiler.add(needed[name].lowered(task.devices))
            programs |= interruption.wait_for(lambda: {name: programs[name].compiled() for name in first})
        return_freed_memory()
        return programs, step_memory(programs[largest])

    def _wait_for_compiler(self, state: S) -> None:
        """Waits for programs that are still being compiled, with a chance to stop."""
        for program in self._functions.values():
            while isinstance(program, Compiling) and not program.is_done(seconds=0.1):
                if processes.is_single_process():
                    self._stop_if_asked(state, _number(state.step))

    def _check_loaded(self, state: S, first_step: int) -> None:
        stopped = self._statuses[0].stopped
        step = self._task.epoch_steps.before(stopped.epoch) if stopped else first_step
        if _number(state.step) != step:
            raise InputError(
                f"the checkpoint of step {first_step} in {self._store.path} holds step {_number(state.step)}; remove it to "
                "resume from an earlier one, or choose another --run-dir"
            )

    @property
    def _has_ended(self) -> bool:
        status = self._statuses[0]
        return status.epochs_ended == self._task.options.epochs or status.stopped is not None

    def _epochs(self, state: S, log: Log) -> tuple[S, dict[str, Any] | None]:
        """Runs the remaining epochs: the final state, and the numbers of its evaluation.

        After a roll-back it returns the state from which the run starts again, and None.
        """
        numbers: dict[str, Any] | None = None
        notes = self._task.notes(state)
        while not self._has_ended:
            epoch = self._statuses[0].epochs_ended
            state = self._decided(self._steps(state, epoch, log), epoch + 1)
            numbers = self._evaluated(state) | self._measured(state, epoch + 1)
            state = self._task.after_epoch(self._functions, state, numbers)
            self._saved = None
            before, notes = notes, self._task.notes(state)
            for text in self._task.messages(before, notes):
                self._display.message(text)
            state = self._end_epoch(state, epoch + 1, numbers, log)
            if self._statuses[0].epochs_ended <= epoch:
                return state, None
        stopped = self._statuses[0].stopped
        if numbers is None or (stopped is not None and stopped.epoch < self._statuses[0].epochs_ended):
            numbers = self._evaluated(state)
        return state, numbers

    def _steps(self, state: S, epoch: int, log: Log) -> S:
        """Runs the remaining steps of an epoch."""
        task, options = self._task, self._task.options
        start, end = task.epoch_steps.before(epoch), task.epoch_steps.before(epoch + 1)
        done = _number(state.step)
        if done == end:
            return state
        for call in task.calls(self._functions, state, epoch, done - start):
            state, metrics = self._functions[call.program](state, *call.inputs)
            self._saved = None
            first, done = done + 1, done + call.steps
            logged = [
                step for step in range(first, done + 1) if step % options.log_every == 0 or step in (start + 1, end)
            ]
            values = None
            if logged:
                found = processes.fetch(dict(metrics))
                self._store.check_finite(state, self._task)
                self._store.check_unchanged()
                for step in logged:
                    values = found
                    if call.steps > 1:
                        values = {name: each[..., step - first] for name, each in found.items()}
                    log.write(step, values)
            self._display.step(
                done - self._not_shown,
                None if values is None else _display_values({name: values[name] for name in task.shown}),
            )
            # To stop or save together, several processes communicate, which takes time: they do it only at logged steps.
            if not processes.is_single_process() and values is None:
                continue
            self._stop_if_asked(state, done, within_limit=done < end)
            due = self._context.clock() - self._last_save >= 60 * options.checkpoint_minutes
            # The end of the epoch saves anyway.
            if done < end and processes.maximum(int(due)):
                with self._display.pause("saving"):
                    self._save(state, done)
        return state

    def _decided(self, state: S, epoch: int) -> S:
        """The state after the decisions at the end of an epoch."""
        if not self._task.decides(epoch):
            return state
        self._store.check_finite(state, self._task)
        self._wait_for_compiler(state)
        with self._display.pause("deciding"):
            decided = self._task.decided(
                self._functions, state, epoch, lambda: self._stop_if_asked(state, _number(state.step))
            )
        self._saved = None
        return decided

    def _evaluated(self, state: S) -> dict[str, Any]:
        """The numbers of an evaluation."""
        self._store.check_finite(state, self._task)
        return self._numbers(self._task.evaluations(self._functions, state), state)

    def _measured(self, state: S, epoch: int) -> dict[str, Any]:
        """Further numbers of an epoch that cost passes."""
        measures = self._task.measures(epoch)
        if not measures:
            return {}
        self._wait_for_compiler(state)
        with self._display.pause("measuring"):
            return dict(processes.fetch(self._task.measured(self._functions, state, epoch)))

    def _numbers(self, evaluations: Sequence[Evaluation], state: S) -> dict[str, Any]:
        numbers: dict[str, Any] = {}
        if evaluations:
            self._wait_for_compiler(state)
        for each in evaluations:
            with self._display.pause(each.doing):
                numbers |= each.numbers(each.means(lambda: self._stop_if_asked(state, _number(state.step))))
        return numbers

    def _end_epoch(self, state: S, epoch: int, numbers: Mapping[str, Any], log: Log) -> S:
        """Writes the results of an epoch, its checkpoint last; returns the state with which the run continues or ends."""
        task, step = self._task, self._task.epoch_steps.before(epoch)
        sums = processes.fetch(dict(state.sums))
        means = {
            name: np.float64(sums[name]) / task.epoch_steps.length(epoch - 1) for name in task.shown if name in sums
        }
        numbers = means | dict(numbers)
        self._store.check_unchanged()
        genotypes: list[AnyGenotype | None] = []
        changed: list[bool] = []
        judged: list[Mapping[str, float]] = []
        for _, part, own in self._each(state):
            genotypes.append(task.epoch_genotype(own))
            before = _before(part, epoch, genotypes[-1])
            changed.append(genotypes[-1] != before)
            judged.append(task.judged(own, genotypes[-1], before))
        numbers |= self._of_all(judged)
        # A run whose metrics are gone stops here, before it writes anything else.
        log.write_epoch(step, {f"epoch/{name.replace('/', '_')}": value for name, value in numbers.items()}, epoch)
        ended = [dataclasses.replace(status, epochs_ended=epoch) for status in self._statuses]
        decision: Stop | RollBack | None = None
        for index, part, own in self._each(state):
            genotype, of_one = genotypes[index], numbers_of_one(numbers, index)
            if genotype is not None:
                part.folder.write_genotype(genotype, epoch)
            mixture = task.epoch_mixture(own)
            if mixture is not None:
                part.folder.write(mixture_file(epoch), mixture.to_json() + "\n")
            picture = functools.partial(cells_picture, genotype) if genotype is not None and changed[index] else None
            log.write_cells(index, step, epoch, {} if mixture is None else mixture.weights, picture)
            ended[index] = self._update_best(ended[index], own, step, of_one, index)
            if task.stopping is not None:
                ended[index] = ended[index].with_epoch(Epoch(epoch, of_one, task.facts(own, genotype)))
                decision = ended[index].decision(task.stopping, task.options.epochs)
        if isinstance(decision, RollBack):
            return self._start_again(ended[0].rolled_back(decision), decision)
        ended = [dataclasses.replace(status, stopped=decision) for status in ended]
        stopped = ended[0].stopped
        if stopped is not None and stopped.epoch < epoch:
            state = self._roll_back(stopped.epoch)
        with self._display.pause("saving"):
            self._statuses = ended
            saved = self._save(state, step)
        if task.options.live:
            for part in self._store.parts:
                self._write_page(part, live=True)
        shown = {name: value for name, value in numbers.items() if name in _SHOWN or not name.startswith(_NOT_SHOWN)}
        self._display.epoch_end(epoch, _display_values(shown))
        if stopped is not None:
            self._display.message(f"the {task.noun} stops after epoch {epoch}: {stop_text(stopped, epoch)}")
        self._saved = saved
        self._stop_if_asked(state, step, within_limit=not self._has_ended)
        return state

    def _of_all(self, found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
        """The numbers that each run has, of each: `[runs]` for several runs."""
        if self._task.runs is None:
            return dict(found[0])
        shared = [name for name in found[0] if all(name in each for each in found)]
        return {name: np.array([each[name] for each in found]) for name in shared}

    def _update_best(
        self, status: RunStatus, state: S, step: int, numbers: Mapping[str, float], index: int
    ) -> RunStatus:
        """Saves the state of one run as its best, if it is."""
        value = None if self._task.best is None else numbers.get(self._task.best)
        if self._task.best is None or value is None:
            return status
        name = best_name(self._task.best)
        if status.best is not None:
            gain = value - status.best[name]
            if not (gain < 0 if self._task.best_is_least else gain > 0):
                return status
        status = dataclasses.replace(status, best={"step": step, name: value})
        with self._display.pause("saving"):
            part = self._store.parts[index]
            self._save_one(part.folder.path / BEST, part, state, step, status, index=index, keep=1)
        return status

    def _start_again(self, status: RunStatus, decision: RollBack) -> S:
        """Loads the state of an earlier epoch, with other controls, and makes its checkpoint the newest.

        A run that dies on the way resumes from a checkpoint that is left, and comes to the same decision.
        """
        task, step = self._task, self._task.epoch_steps.before(decision.epoch)
        state = task.with_controls(self._roll_back(decision.epoch), decision.controls)
        self._statuses = [status]
        with self._display.pause("saving"):
            self._store.remove_after(step)
            self._saved = self._save(state, step)
        changes = ", ".join(f"{name.rpartition('/')[2]} {value:g}" for name, value in decision.controls.items())
        self._display.message(
            f"the {task.noun} starts again from epoch {decision.epoch} with {changes}: {decision.reason}"
        )
        self._stop_if_asked(state, step)
        return state

    def _roll_back(self, epoch: int) -> S:
        try:
            return self._store.load_at(self._task.epoch_steps.before(epoch), self._task)
        except InputError as error:
            raise InputError(
                f"the {self._task.noun} cannot roll back to epoch {epoch}: {error}; start another --run-dir"
            ) from None

    def _end(self, state: S, numbers: dict[str, Any]) -> tuple[Summary[Any], ...]:
        """Tests, draws and writes the summaries."""
        task, found = self._task, []
        best = self._statuses[0].best
        folder_and_step = checkpoint.FOLDER, task.epoch_steps.before(self._statuses[0].epochs_ended)
        if best is not None:
            folder_and_step = BEST, best["step"]
        tested_at = str(checkpoint.path_of(Path(folder_and_step[0]), folder_and_step[1]))
        tested = state if best is None else self._load_best(tested_at)
        tests = task.tests(self._functions, tested)
        numbers = numbers | self._numbers(tests, state)
        for index, part, own in self._each(state):
            status, folder = self._statuses[index], part.folder
            end = End(folder.path, self._seconds(index), status.best, tested_at)
            result = task.result(own, numbers_of_one(numbers, index), end)
            for name, text in (item for each in tests for item in each.files().items()):
                folder.write(name, text)
            if processes.is_coordinator():
                with self._display.pause("drawing"):
                    write_drawings(part, result)
            steps = task.epoch_steps.before(status.epochs_ended)
            found.append(Summary(result, status.epochs_ended, steps, end.seconds, status.stopped, status.changes))
            write_summary(found[-1], folder)
            self._write_page(part, live=False)
        return tuple(found)

    def _write_page(self, part: Part, *, live: bool) -> None:
        if processes.is_coordinator():
            with self._display.pause("writing the page"):
                write_page(part, self._memory, live=live)

    def _load_best(self, place: str) -> S:
        try:
            found = checkpoint.read(self._store.path / place)
        except InputError as error:
            raise InputError(
                f"the best weights of this {self._task.noun} are lost: {error}. Put {place} back and start the same command "
                "again, or choose another --run-dir"
            ) from None
        return self._store.load([found], self._task)

    def _stop_if_asked(self, state: S, step: int, *, within_limit: bool = False) -> None:
        """Saves the state, shows where, and raises `Interrupted` if any process has received a signal.

        Args:
          state: the present state.
          step: its step.
          within_limit: whether the time limit counts: the run is further than at its start, and has not ended.
        """
        asked = processes.maximum(self._context.interruption.asked(within_limit=within_limit))
        if asked:
            path = self._saved or self._save(state, step)
            self._display.message(f"saved {path}; run the same command to resume")
            raise Interrupted(asked)

    def _save(self, state: S, step: int) -> Path:
        """Writes a checkpoint of each run; returns its path, or the folder of several runs."""
        self._store.check_finite(state, self._task)
        path = self._store.path
        options, rule = self._task.options, self._task.stopping
        for index, part, own in self._each(state):
            status = self._statuses[index]
            spare = frozenset(map(self._task.epoch_steps.before, status.epochs_to_keep(rule)))
            kept = {"keep": options.keep_checkpoints, "spare": spare}
            saved = self._save_one(part.folder.checkpoints, part, own, step, status, index=index, **kept)
            path = saved if self._task.runs is None else path
        self._last_save = self._context.clock()
        return path

    def _save_one(
        self, folder: Path, part: Part, state: S, step: int, status: RunStatus, *, index: int, **kept: Any
    ) -> Path:
        status = dataclasses.replace(status, seconds=self._seconds(index))
        with part.folder.writing():
            record = status.record(self._task, state, part.settings)
            return checkpoint.save(folder, step, state, record, **kept)

    def _seconds(self, index: int) -> float:
        """Time that a run has taken, including earlier processes."""
        return self._earlier[index] + self._context.clock() - self._started

    def _each(self, state: S) -> Iterator[tuple[int, Part, S]]:
        """Index, folder and state of each run."""
        for index, part in enumerate(self._store.parts):
            yield index, part, state if self._task.runs is None else self._functions["one"](state, np.int32(index))


#: Numbers of an epoch that are only in the log, but for those that cost further passes.
_NOT_SHOWN = ("guards/", "controls/", "budget/")
_SHOWN = (EIGENVALUE, SLOPE, CORRELATION)


def _before(part: Part, epoch: int, genotype: AnyGenotype | None) -> AnyGenotype | None:
    """The genotype of the epoch before, from the run's folder."""
    return None if genotype is None else part.folder.genotype_of(epoch - 1, type(genotype))


def _number(value: Any) -> int:
    """A number that is the same for all stacked runs."""
    return int(np.max(processes.fetch(value)))


def _display_values(values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers for the display: means over several runs."""
    return {name: float(np.mean(value)) for name, value in values.items()}
