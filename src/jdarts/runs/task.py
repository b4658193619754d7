"""The task of a run: data and pure functions. Everything that all runs share is in `jdarts.runs.loop`."""

import abc
import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, Self, TypeVar

import jax
import numpy as np

from jdarts.errors import InputError
from jdarts.genotype import AnyGenotype
from jdarts.methods.mixture_record import MixtureRecord
from jdarts.methods.stopping import StoppingRule
from jdarts.runs import processes
from jdarts.runs.calls import Call, of_several, plan, program_of_several, shapes_of_several
from jdarts.runs.devices import Devices
from jdarts.runs.epoch_steps import EpochSteps
from jdarts.runs.folder import Fingerprint
from jdarts.runs.memory import MemoryOption
from jdarts.runs.options import Loop
from jdarts.runs.summaries import Result

#: The compiled programs of a run, by name.
Functions = Mapping[str, Callable[..., Any]]


class State(Protocol):
    """The part of a run's state, a pytree, that the loop reads.

    Attributes:
      step: int32 `[]`, number of steps done.
      sums: sums of metrics over the steps of the current epoch.
      not_finite_at: int32 `[]`, the first step with a value that is not finite; 0 if there is none.
    """

    @property
    def step(self) -> Any: ...  # noqa: D102

    @property
    def sums(self) -> Mapping[str, Any]: ...  # noqa: D102

    @property
    def not_finite_at(self) -> Any: ...  # noqa: D102


S = TypeVar("S", bound=State)


class Input(NamedTuple):
    """One argument of a program.

    Attributes:
      shapes: shapes and types, a pytree.
      split: whether it is split over the devices by its first axis; else it is replicated. None leaves it to the compiler.
      stacked: whether it has a leading axis of runs when several runs are stacked.
    """

    shapes: Any
    split: bool | None = False
    stacked: bool = False


#: Shape and type of a seed.
SEED = jax.ShapeDtypeStruct((), np.uint32)

#: What each device computes of a program: all of it, its share of a batch, its share of stacked runs, or its share of the
#: results.
Spread = Literal["replicated", "batch", "runs", "results"]


class Program(NamedTuple):
    """A pure function of a run, to be compiled.

    Attributes:
      function: takes the inputs; with `spread="batch"` also `axis_name`, as `jdarts.parallel` says.
      inputs: its arguments in order; of a step the state is the first.
      spread: how the devices compute it.
      donate: whether the memory of the first input may be reused.
      needed_for_first_step: whether the first step waits for it.
    """

    function: Callable[..., Any]
    inputs: tuple[Input, ...]
    spread: Spread = "replicated"
    donate: bool = False
    needed_for_first_step: bool = True

    def of_several(self, steps: int, axes: Sequence[int | None]) -> "Program":
        """The program that takes several of these steps in one call.

        Args:
          steps: their number.
          axes: for each input besides the state the axis of the steps; None for an input that all steps share.
        """
        state, *inputs = self.inputs
        longer = (
            each._replace(shapes=shapes_of_several(each.shapes, axis, steps))
            for each, axis in zip(inputs, axes, strict=True)
        )
        return self._replace(function=of_several(self.function, axes), inputs=(state, *longer))

    def lowered(self, devices: Devices) -> jax.stages.Lowered:
        """Traces the program for these devices."""
        _, *rest = self.inputs
        if self.spread == "batch":
            wrapped = devices.step(self.function, split=[bool(each.split) for each in rest], donate=self.donate)
        elif self.spread == "runs":
            wrapped = devices.runs_step(self.function, stacked=[each.stacked for each in rest], donate=self.donate)
        elif self.spread == "results":
            wrapped = devices.split_results(self.function)
        else:
            wrapped = devices.replicated(self.function, donate=self.donate)
        return wrapped.lower(*(_placed(each, devices) for each in self.inputs))


def _placed(each: Input, devices: Devices) -> Any:
    return each.shapes if each.split is None else devices.shapes(each.shapes, split=each.split)


def programs_of_several(programs: Mapping[str, Program], steps: int, axes: Sequence[int | None]) -> dict[str, Program]:
    """The programs that take several steps in one call, beside `step` and `weights_step`; none if a call takes one step.

    Args:
      programs: those of one step, and others.
      steps: number of steps of a call.
      axes: as for `Program.of_several`.
    """
    if steps == 1:
        return {}
    names = [name for name in programs if name in ("step", "weights_step")]
    return {program_of_several(name): programs[name].of_several(steps, axes) for name in names}


class Evaluation(NamedTuple):
    """A mean over examples, which the loop computes batch by batch.

    Attributes:
      doing: what the display shows meanwhile.
      sums: from one batch `(examples, labels, mask)` to sums over the examples in the mask.
      batches: the batches.
      numbers: from the means to numbers by names such as `evaluation/loss`.
      files: after the batches, the texts of files for the run's folder, by name. The loop writes those of `Task.tests`.
    """

    doing: str
    sums: Callable[..., Any]
    batches: Iterable[tuple[Any, Any, Any]]
    numbers: Callable[[np.ndarray], Mapping[str, Any]]
    files: Callable[[], Mapping[str, str]] = dict

    def means(self, between: Callable[[], None]) -> np.ndarray:
        """The means over all examples in the masks of the batches.

        Args:
          between: called after each batch if this is the only process.
        """
        sums, counted = np.zeros(()), 0
        for batch in self.batches:
            sums = sums + np.array(processes.fetch(self.sums(*batch)), np.float64)
            counted += int(np.sum(batch[-1]))
            if processes.is_single_process():
                between()
        return sums / counted


class End(NamedTuple):
    """Facts at the end of a run, besides its state.

    Attributes:
      folder: the run's folder.
      seconds: time that the processes of the run have taken.
      best: `step` and score of the best epoch; None if the run keeps none.
      checkpoint: path of the tested checkpoint, below the run's folder.
    """

    folder: Path
    seconds: float
    best: Mapping[str, Any] | None
    checkpoint: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC, Generic[S]):
    """One kind of run on its data. Each kind is a subclass with more fields; several runs may be stacked (`runs`).

    Attributes:
      noun: the name of this kind of run in messages.
      unit: what the speed on the display counts.
      shown: the metrics of a step on the live display, in order; `State.sums` has some of them.
      best: the number of an evaluation that is largest in the best epoch, whose state is kept; None to keep none.
      best_is_least: whether it is the least instead.
      largest: the program whose memory the run reports at its start, or that of several of its steps.
      options: epochs, records and checkpoints.
      seed: uint32 `[]`, seed of the initial state, or `[runs]`.
      fingerprint: identifies the data of the run.
      epoch_steps: which steps make up its epochs.
      steps_per_call: steps of one call of a program.
      units_per_step: how many of `unit` a step reads.
      template: shapes and types of the state.
      description: the line that a new run shows at its start.
      key: what the compiled programs depend on.
      programs: the programs in the order in which they are needed, `step` among them.
      programs_with: makes the programs for other epochs in steps; None if they do not depend on those.
      examples: the examples of an epoch, of which steps read whole batches; None where another size of a batch would make it
        another run.
      compiler_options: options of XLA for the programs.
      memory_options: options of the command line that would save memory.
      devices: the devices that compute it.
      stopping: the rule that may end the run early; None for none.
      runs: number of stacked runs, the first axis of all leaves of the state, metrics and evaluations; None for a single run
        without that axis.
    """

    noun: ClassVar[str]

    unit: str = "images"
    shown: tuple[str, ...] = ()
    best: str | None = None
    best_is_least: bool = False
    largest: str = "step"
    options: Loop
    seed: Any
    fingerprint: Fingerprint
    epoch_steps: EpochSteps
    steps_per_call: int = 1
    units_per_step: int
    template: S
    description: str
    key: Hashable
    programs: Mapping[str, Program]
    programs_with: Callable[[EpochSteps], Mapping[str, Program]] | None = None
    examples: int | None = None
    compiler_options: Mapping[str, str | bool] = dataclasses.field(default_factory=dict)
    memory_options: Sequence[MemoryOption] = ()
    devices: Devices
    stopping: StoppingRule | None = None
    runs: int | None = None

    @property
    def steps_per_epoch(self) -> int:
        """The steps of an epoch with the present batches."""
        return self.epoch_steps.last_length

    def with_epoch_steps(self, epoch_steps: EpochSteps) -> Self:
        """The task of a run whose earlier epochs had other batches."""
        if epoch_steps == self.epoch_steps:
            return self
        changed = dataclasses.replace(self, epoch_steps=epoch_steps)
        if self.programs_with is None:
            return changed
        return dataclasses.replace(changed, programs=self.programs_with(epoch_steps), key=(self.key, epoch_steps))

    def initial(self, functions: Functions) -> S:
        """The state before the first step."""
        return functions["init"](self.seed)

    @abc.abstractmethod
    def calls(self, functions: Functions, state: S, epoch: int, first: int) -> Iterator[Call]:
        """The calls that take the steps of an epoch, from the step with index `first` on."""

    def step_program(self, index: int, epoch: int) -> str:
        """The program of a step, by its index in an epoch that is counted from 0."""
        del index, epoch
        return "step"

    def plan(self, epoch: int, first: int) -> list[tuple[str, range]]:
        """The program of each call of `calls`, and the indices of its steps."""
        names = [self.step_program(index, epoch) for index in range(first, self.steps_per_epoch)]
        return list(plan(names, first, self.steps_per_call))

    def needed_programs(self, first_step: int) -> dict[str, Program]:
        """The programs of a run that resumes after so many steps, without those of one step or of several that it never calls."""
        if self.steps_per_call == 1:
            return dict(self.programs)
        epoch = self.epoch_steps.epoch(first_step)
        starts = [(epoch, first_step - self.epoch_steps.before(epoch))]
        starts += [(each, 0) for each in range(self.options.epochs)]
        called = {name for start in starts for name, _ in self.plan(*start)}
        single = [name for name in self.programs if program_of_several(name) in self.programs]
        unused = {*single, *map(program_of_several, single)} - called
        return {name: program for name, program in self.programs.items() if name not in unused}

    def decides(self, epoch: int) -> bool:
        """Whether a run decides something at the end of an epoch, which is counted from 1."""
        del epoch
        return False

    def decided(self, functions: Functions, state: S, epoch: int, between: Callable[[], None]) -> S:
        """The state with what is decided at the end of an epoch, before its evaluation.

        An interrupted run calls it again with the state from before, or with the state that it has returned, which then stays.

        Args:
          functions: the compiled programs.
          state: the state after the last step of the epoch.
          epoch: the epoch, counted from 1.
          between: called after each batch; it may end the run.
        """
        del functions, epoch, between
        return state

    def evaluations(self, functions: Functions, state: S) -> Sequence[Evaluation]:
        """The evaluations after each epoch."""
        return ()

    def after_epoch(self, functions: Functions, state: S, numbers: Mapping[str, float]) -> S:
        """The state for the next epoch, after an epoch's evaluation."""
        del functions, numbers
        return state

    def measures(self, epoch: int) -> Sequence[str]:
        """The programs that measure further numbers at the end of an epoch, which is counted from 1."""
        del epoch
        return ()

    def measured(self, functions: Functions, state: S, epoch: int) -> dict[str, Any]:
        """The numbers of `measures`, by name; `[runs]` for several runs.

        Args:
          functions: the compiled programs.
          state: the state at the end of the epoch.
          epoch: the epoch, counted from 1.
        """
        del functions, state, epoch
        return {}

    def judged(self, state: S, genotype: Any, before: AnyGenotype | None) -> Mapping[str, float]:
        """Numbers of one run's epoch that need no pass through the network, by name.

        Args:
          state: the state of one run.
          genotype: its `epoch_genotype`.
          before: the genotype of the epoch before; None if there is none.
        """
        del state, genotype, before
        return {}

    def with_controls(self, state: S, controls: Mapping[str, float]) -> S:
        """A state with other controls, by the names of `jdarts.methods.stopping.RollBack.controls`.

        Raises:
          InputError: this kind of run has no such controls.
        """
        raise InputError(f"a {self.noun} cannot change {', '.join(controls)} on its way; give another --stop")

    def notes(self, state: S) -> Mapping[str, Any]:
        """Facts of a state that may lead to a message when they change between epochs."""
        return {}

    def messages(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> Sequence[str]:
        """The messages on the notes of two consecutive epochs."""
        return ()

    def tests(self, functions: Functions, state: S) -> Sequence[Evaluation]:
        """The evaluations at the end of the run, of the best state if one is kept."""
        return ()

    def epoch_genotype(self, state: S) -> AnyGenotype | None:
        """The genotype after an epoch; None for none."""
        return None

    def epoch_mixture(self, state: S) -> MixtureRecord | None:
        """The mixture after an epoch of one run; None for none."""
        del state
        return None

    @abc.abstractmethod
    def record(self, state: S) -> dict[str, Any]:
        """The record of one run's checkpoint, which readers need without the arrays, as JSON data."""

    def facts(self, state: S, genotype: Any) -> dict[str, Any]:
        """Facts of one run's epoch that a stopping rule reads besides its numbers, as JSON data.

        Args:
          state: the state of one run.
          genotype: its `epoch_genotype`.
        """
        del state, genotype
        return {}

    @abc.abstractmethod
    def result(self, state: S, numbers: Mapping[str, Any], end: End) -> Result:
        """The result of one run.

        Args:
          state: the state at the end.
          numbers: of the last evaluation and of the tests.
          end: folder, time and checkpoint.
        """

    def placed(self, batch: Sequence[np.ndarray]) -> Any:
        """Places a batch of an evaluation on the devices: split, or replicated if they share the runs."""
        if self.runs is not None:
            return self.devices.replicate(batch)
        return self.devices.split([self.devices.share(each) for each in batch])
