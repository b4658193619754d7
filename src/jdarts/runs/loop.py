"""The loop of every run: epochs of steps around a task, with everything that a run shows, saves and leaves behind."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic

import numpy as np

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.methods.stopping import Epoch
from jdarts.report import Progress, draw_cells, draw_curves, read_metrics
from jdarts.runs import processes
from jdarts.runs.batched import numbers_of_one
from jdarts.runs.context import Context
from jdarts.runs.memory import start_lines
from jdarts.runs.programs import Compiler, Compiling
from jdarts.runs.standing import Standing, best_name, read_standing
from jdarts.runs.store import BEST, Log, Part
from jdarts.runs.summaries import Summary, stop_text, write_summary
from jdarts.runs.task import End, Evaluation, Functions, S, Task
from jdarts.xla.allocator import return_freed_memory


class Loop(Generic[S]):
    """One process's share of a run, or of several that are stacked.

    Args:
      task: what the run does.
      context: what surrounds it.
    """

    def __init__(self, task: Task[S], context: Context) -> None:
        self._task = task
        self._context = context
        self._store = context.store
        # How far each of the runs has come.
        self._standings: list[Standing] = [Standing() for _ in self._store.parts]
        # The checkpoint that holds the present state, if there is one.
        self._saved: Path | None = None
        self._functions: Functions
        self._display: Progress

    def run(self) -> tuple[Summary[Any], ...]:
        """Runs to the end, after the newest whole checkpoint if there is one.

        Returns:
          The summary of each run.

        Raises:
          InputError: the folder cannot be written, the disk is full, or something was not finite.
          Interrupted: SIGINT or SIGTERM came; the state was saved first.
        """
        task, store = self._task, self._store
        skipped: list[str] = []
        found = store.newest(skipped)
        if found:
            self._standings = [read_standing(each, task) for each in found]
        self._earlier = [standing.seconds for standing in self._standings]
        first_step = found[0].step if found else 0
        # All have looked at the folder before one of them changes it.
        if (processes.most(first_step), processes.most(-first_step)) != (first_step, -first_step):
            raise InputError(
                f"the processes see different checkpoints in {store.path}; give a --run-dir that they share"
            )
        self._started = self._last_save = self._context.clock()
        self._display = Progress(
            epochs=task.options.epochs,
            steps_per_epoch=task.steps_per_epoch,
            batch_size=task.units_per_step,
            unit=task.unit,
            first_step=first_step,
            title=task.noun,
            stream=self._context.stream if processes.is_coordinator() else processes.silent(),
        )
        store.check_unchanged()
        with self._display, store.open_log(first_step) as log:
            for text in skipped:
                self._display.message(f"skipped: {text}")
            store.remove_half_written()
            self._display.message(self._first_line(first_step, lost=bool(skipped)))
            self._functions = self._context.programs.get(task.key, self._compiled)
            return_freed_memory()
            step = self._functions[task.largest]
            for text in start_lines(step, task.savings, devices=task.devices.own):
                self._display.message(text)
            state = store.load(found, task) if found else task.initial(self._functions)
            self._check_loaded(state, first_step)
            self._saved = found[0].path if found else None
            return self._end(*self._epochs(state, log))

    def _first_line(self, first_step: int, *, lost: bool) -> str:
        if first_step:
            return f"resuming {self._store.path} after step {first_step:,}"
        again = "no whole checkpoint is left, so the run starts from the beginning: " if lost else ""
        return f"{again}{self._task.description}; run folder {self._store.path}"

    def _compiled(self) -> Functions:
        """The programs; the first step does not wait for those that it does not need."""
        task, interruption = self._task, self._context.interruption
        first = [name for name, program in task.programs.items() if program.before_steps or name == task.largest]
        compiler, programs = Compiler(task.compiler_options), {}
        with self._display.waiting("compiling the step"):
            try:
                with interruption.stoppable():
                    for name in sorted(task.programs, key=lambda name: name not in first):
                        programs[name] = compiler.add(task.programs[name].lowered(task.devices))
            finally:
                compiler.close()
            return programs | interruption.wait_for(lambda: {name: programs[name].compiled() for name in first})

    def _wait_for_compiler(self, state: S) -> None:
        """Waits for programs that are still being compiled, with a chance to stop."""
        for program in self._functions.values():
            while isinstance(program, Compiling) and not program.is_done(seconds=0.1):
                if processes.alone():
                    self._stop_if_asked(state, _number(state.step))

    def _check_loaded(self, state: S, first_step: int) -> None:
        stopped = self._standings[0].stopped
        step = stopped.epoch * self._task.steps_per_epoch if stopped else first_step
        if _number(state.step) != step:
            raise InputError(
                f"the checkpoint of step {first_step} in {self._store.path} holds step {_number(state.step)}; remove it to "
                "resume from the one before, or choose another --run-dir"
            )

    @property
    def _has_ended(self) -> bool:
        standing = self._standings[0]
        return standing.epochs_ended == self._task.options.epochs or standing.stopped is not None

    def _epochs(self, state: S, log: Log) -> tuple[S, dict[str, Any]]:
        """All epochs that are still to be done: the state after them, and the numbers of its evaluation."""
        numbers: dict[str, Any] | None = None
        notes = self._task.notes(state)
        while not self._has_ended:
            epoch = self._standings[0].epochs_ended
            state = self._steps(state, epoch, log)
            numbers = self._evaluated(state)
            state = self._task.after_epoch(self._functions, state, numbers)
            self._saved = None
            before, notes = notes, self._task.notes(state)
            for text in self._task.messages(before, notes):
                self._display.message(text)
            state = self._end_epoch(state, epoch + 1, numbers, log)
        stopped = self._standings[0].stopped
        if numbers is None or (stopped is not None and stopped.epoch < self._standings[0].epochs_ended):
            numbers = self._evaluated(state)
        return state, numbers

    def _steps(self, state: S, epoch: int, log: Log) -> S:
        """The steps of an epoch that are still to be done."""
        task, options = self._task, self._task.options
        start, end = epoch * task.steps_per_epoch, (epoch + 1) * task.steps_per_epoch
        done = _number(state.step)
        if done == end:
            return state
        for inputs in task.inputs(self._functions, state, epoch, done - start):
            state, metrics = task.step(self._functions, state, inputs)
            self._saved = None
            done += 1
            values = None
            if done % options.log_every == 0 or done == start + 1 or done == end:
                values = processes.fetched(dict(metrics))
                self._store.check_finite(state, self._task)
                self._store.check_unchanged()
                log.write(done, values)
            self._display.step(done, None if values is None else _shown({name: values[name] for name in task.shown}))
            # Several processes agree on when to stop and to save; that takes a moment, so that they do not ask at every step.
            if not processes.alone() and values is None:
                continue
            self._stop_if_asked(state, done)
            due = self._context.clock() - self._last_save >= 60 * options.checkpoint_minutes
            # The end of the epoch saves by itself.
            if done < end and processes.most(int(due)):
                with self._display.pause("saving"):
                    self._save(state, done)
        return state

    def _evaluated(self, state: S) -> dict[str, Any]:
        """The numbers of an evaluation."""
        self._store.check_finite(state, self._task)
        return self._numbers(self._task.evaluations(self._functions, state), state)

    def _numbers(self, evaluations: Sequence[Evaluation], state: S) -> dict[str, Any]:
        numbers: dict[str, Any] = {}
        if evaluations:
            self._wait_for_compiler(state)
        for each in evaluations:
            with self._display.pause(each.doing):
                numbers |= each.numbers(self._means(each, state))
        return numbers

    def _means(self, evaluation: Evaluation, state: S) -> np.ndarray:
        """Means over all that the masks of the batches count, with a chance to stop after each batch."""
        sums, counted = np.zeros(()), 0
        for batch in evaluation.batches:
            sums = sums + np.array(processes.fetched(evaluation.sums(*batch)), np.float64)
            counted += int(np.sum(batch[-1]))
            if processes.alone():
                self._stop_if_asked(state, _number(state.step))
        return sums / counted

    def _end_epoch(self, state: S, epoch: int, numbers: Mapping[str, Any], log: Log) -> S:
        """Writes what an epoch leaves behind, its checkpoint last; the state with which the run continues or ends."""
        task, step = self._task, epoch * self._task.steps_per_epoch
        sums = processes.fetched(dict(state.sums))
        means = {name: np.float64(sums[name]) / task.steps_per_epoch for name in task.shown if name in sums}
        numbers = means | dict(numbers)
        self._store.check_unchanged()
        log.write_epoch(step, {f"epoch/{name.replace('/', '_')}": value for name, value in numbers.items()}, epoch)
        ended = [dataclasses.replace(standing, epochs_ended=epoch) for standing in self._standings]
        for place, part, own in self._each(state):
            genotype = task.epoch_genotype(own)
            if genotype is not None:
                part.folder.write_genotype(genotype, epoch)
            ended[place] = self._with_best(ended[place], own, step, self._of_one(numbers, place), place)
            ended[place] = self._with_decision(ended[place], own, self._of_one(numbers, place))
        stopped = ended[0].stopped
        if stopped is not None and stopped.epoch < epoch:
            state = self._rolled_back(stopped.epoch)
        with self._display.pause("saving"):
            self._standings = ended
            saved = self._save(state, step)
        self._display.epoch_end(epoch, _shown(numbers))
        if stopped is not None:
            self._display.message(f"the {task.noun} stops after epoch {epoch}: {stop_text(stopped, epoch)}")
        self._saved = saved
        self._stop_if_asked(state, step)
        return state

    def _with_best(self, standing: Standing, state: S, step: int, numbers: Mapping[str, float], place: int) -> Standing:
        """Keeps the state of one run as the best one, if it is."""
        value = None if self._task.best is None else numbers.get(self._task.best)
        if self._task.best is None or value is None:
            return standing
        name = best_name(self._task.best)
        if standing.best is not None and value <= standing.best[name]:
            return standing
        standing = dataclasses.replace(standing, best={"step": step, name: value})
        with self._display.pause("saving"):
            part = self._store.parts[place]
            self._save_one(part.folder.path / BEST, part, state, step, standing, place=place, keep=1)
        return standing

    def _with_decision(self, standing: Standing, state: S, numbers: Mapping[str, float]) -> Standing:
        """Adds an epoch to what a stopping rule reads, and what it decides."""
        rule = self._task.stopping
        if rule is None:
            return standing
        history = (*standing.history, Epoch(standing.epochs_ended, numbers, self._task.facts(state)))
        return dataclasses.replace(standing, history=history, stopped=rule.decide(history))

    def _rolled_back(self, epoch: int) -> S:
        try:
            return self._store.load_at(epoch * self._task.steps_per_epoch, self._task)
        except InputError as error:
            raise InputError(
                f"the {self._task.noun} cannot roll back to epoch {epoch}: {error}; start another --run-dir"
            ) from None

    def _end(self, state: S, numbers: dict[str, Any]) -> tuple[Summary[Any], ...]:
        """Tests, draws and summarises."""
        task, found = self._task, []
        best = self._standings[0].best
        place_of_tested = checkpoint.FOLDER, self._standings[0].epochs_ended * task.steps_per_epoch
        if best is not None:
            place_of_tested = BEST, best["step"]
        tested_at = str(checkpoint.path_of(Path(place_of_tested[0]), place_of_tested[1]))
        tested = state if best is None else self._load_best(tested_at)
        numbers = numbers | self._numbers(task.tests(self._functions, tested), state)
        for place, part, own in self._each(state):
            standing, folder = self._standings[place], part.folder
            end = End(folder.path, self._seconds(place), standing.best, tested_at)
            result = task.result(own, self._of_one(numbers, place), end)
            if processes.is_coordinator():
                with self._display.pause("drawing"):
                    folder.write_genotype(result.genotype)
                    draw_cells(result.genotype, folder.path, title=part.title)
                    draw_curves(read_metrics(folder.path), folder.path / "curves.png")
            steps = standing.epochs_ended * task.steps_per_epoch
            found.append(Summary(result, standing.epochs_ended, steps, end.seconds, standing.stopped))
            write_summary(found[-1], folder)
        return tuple(found)

    def _load_best(self, place: str) -> S:
        try:
            found = checkpoint.read(self._store.path / place)
        except InputError as error:
            raise InputError(
                f"the best weights of this {self._task.noun} are lost: {error}. Put {place} back and start the same command "
                "again, or choose another --run-dir"
            ) from None
        return self._store.load([found], self._task)

    def _stop_if_asked(self, state: S, step: int) -> None:
        """Saves, says so and raises `Interrupted` if a signal has come, to any of the processes."""
        interruption = self._context.interruption
        asked = processes.most(interruption.signal or 0)
        if asked:
            interruption.signal = asked
            path = self._saved or self._save(state, step)
            self._display.message(f"saved {path}; run the same command to resume")
            interruption.check()

    def _save(self, state: S, step: int) -> Path:
        """Writes the checkpoints of a step: of one run its own, of several all theirs."""
        self._store.check_finite(state, self._task)
        path = self._store.path
        options = self._task.options
        for place, part, own in self._each(state):
            standing = self._standings[place]
            kept = {"keep": options.keep_checkpoints, "spare": self._spare(standing)}
            saved = self._save_one(part.folder.checkpoints, part, own, step, standing, place=place, **kept)
            path = saved if self._task.runs is None else path
        self._last_save = self._context.clock()
        return path

    def _save_one(
        self, folder: Path, part: Part, state: S, step: int, standing: Standing, *, place: int, **kept: Any
    ) -> Path:
        standing = dataclasses.replace(standing, seconds=self._seconds(place))
        with part.folder.writing():
            record = standing.record(self._task, state, part.settings)
            return checkpoint.save(folder, step, state, record, **kept)

    def _spare(self, standing: Standing) -> frozenset[int]:
        """Steps whose checkpoints a stopping rule may still roll back to, after the next epoch at the earliest."""
        if self._task.stopping is None or standing.stopped is not None:
            return frozenset()
        ended, per_epoch = standing.epochs_ended, self._task.steps_per_epoch
        first = max(ended + 1 - self._task.stopping.reach, 1)
        return frozenset(epoch * per_epoch for epoch in range(first, ended + 1))

    def _seconds(self, place: int) -> float:
        """Time that a run has taken, the shares of earlier processes included."""
        return self._earlier[place] + self._context.clock() - self._started

    def _each(self, state: S) -> Iterator[tuple[int, Part, S]]:
        """The runs with their own states."""
        for place, part in enumerate(self._store.parts):
            yield place, part, state if self._task.runs is None else self._functions["one"](state, np.int32(place))

    def _of_one(self, numbers: Mapping[str, Any], place: int) -> dict[str, Any]:
        return dict(numbers) if self._task.runs is None else numbers_of_one(numbers, place)


def _number(value: Any) -> int:
    """A number that all runs of a batch of runs have in common."""
    return int(np.max(processes.fetched(value)))


def _shown(values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers for the display: means, where there is one for each of several runs."""
    return {name: float(np.mean(value)) for name, value in values.items()}
