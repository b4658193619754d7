"""What one kind of run does: data and pure functions, around which `jdarts.runs.loop` puts everything that all runs share."""

import abc
import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar

import jax
import numpy as np

from jdarts.genotype import AnyGenotype
from jdarts.methods.stopping import StoppingRule
from jdarts.runs.devices import Devices
from jdarts.runs.folder import Fingerprint
from jdarts.runs.memory import Saving
from jdarts.runs.options import Loop
from jdarts.runs.summaries import Result

#: The compiled programs of a run, by name.
Functions = Mapping[str, Callable[..., Any]]


class State(Protocol):
    """What the loop reads of a run's state, a pytree.

    Attributes:
      step: int32 `[]`, steps that were done.
      sums: sums of metrics over the steps of the present epoch.
      not_finite_at: int32 `[]`, the first step at which something was not finite; 0 while there is none.
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
      split: whether the devices share its first axis, rather than each holding all of it; None leaves it to the compiler.
      stacked: whether it has a leading axis of runs where several runs are one.
    """

    shapes: Any
    split: bool | None = False
    stacked: bool = False


#: Shape and type of a seed.
SEED = jax.ShapeDtypeStruct((), np.uint32)

#: How devices compute a program: each the whole, each its share of a batch, each its share of stacked runs, or each a
#: share of the results.
Spread = Literal["everywhere", "batch", "runs", "results"]


class Program(NamedTuple):
    """A pure function of a run, to be compiled.

    Attributes:
      function: takes the inputs; with `spread="batch"` also `axis_name`, as `jdarts.parallel` says.
      inputs: its arguments in order; of a step the state is the first.
      spread: how the devices compute it.
      donate: whether the memory of the first input may be used again.
      before_steps: whether the first step waits for it.
    """

    function: Callable[..., Any]
    inputs: tuple[Input, ...]
    spread: Spread = "everywhere"
    donate: bool = False
    before_steps: bool = True

    def lowered(self, devices: Devices) -> jax.stages.Lowered:
        """The program traced for these devices."""
        _, *rest = self.inputs
        if self.spread == "batch":
            wrapped = devices.step(self.function, split=[bool(each.split) for each in rest], donate=self.donate)
        elif self.spread == "runs":
            wrapped = devices.runs_step(self.function, stacked=[each.stacked for each in rest], donate=self.donate)
        elif self.spread == "results":
            wrapped = devices.split_results(self.function)
        else:
            wrapped = devices.everywhere(self.function, donate=self.donate)
        return wrapped.lower(*(_placed(each, devices) for each in self.inputs))


def _placed(each: Input, devices: Devices) -> Any:
    return each.shapes if each.split is None else devices.shapes(each.shapes, split=each.split)


class Evaluation(NamedTuple):
    """A mean over examples, which the loop takes batch by batch.

    Attributes:
      doing: what the display says meanwhile.
      sums: one batch `(examples, labels, mask)` to sums over what the mask counts.
      batches: the batches.
      numbers: the means to numbers by names such as `evaluation/loss`.
    """

    doing: str
    sums: Callable[..., Any]
    batches: Iterable[tuple[Any, Any, Any]]
    numbers: Callable[[np.ndarray], Mapping[str, Any]]


class End(NamedTuple):
    """What a run knows at its end beside its state.

    Attributes:
      folder: the run's folder.
      seconds: time that the processes of the run have spent on it.
      best: of the best epoch, where one is kept, its `step` and the number that makes it the best.
      checkpoint: place of the checkpoint that the tests have read, below the run's folder.
    """

    folder: Path
    seconds: float
    best: Mapping[str, Any] | None
    checkpoint: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC, Generic[S]):
    """One kind of run on its data. A kind of run is a subclass with fields of its own; `runs` of them may be stacked as one.

    Attributes:
      noun: what messages call this kind of run.
      unit: what the speed on the display counts.
      shown: the metrics of a step that the live display shows, in order; those of `State.sums` among them.
      best: the number of an evaluation whose largest value marks the best epoch, which is then kept; None for none.
      largest: the program whose memory the run reports at its start.
      options: epochs, records and checkpoints.
      seed: uint32 `[]`, seed of the initial state, or `[runs]`.
      fingerprint: what tells the data of the run from others.
      steps_per_epoch: steps of an epoch.
      units_per_step: how many of `unit` a step reads.
      template: shapes and types of the state.
      description: what a new run says at its start.
      key: what the compiled programs depend on.
      programs: the programs in the order in which they are needed, `step` among them.
      compiler_options: options of XLA for the programs.
      savings: options of the command line that would save memory.
      devices: the devices that compute it.
      stopping: the rule that may end the run early; None for none.
      runs: how many runs are stacked: all leaves of the state, metrics and evaluations have them as their first axis. None
        for one that is not stacked.
    """

    noun: ClassVar[str]
    unit: ClassVar[str] = "images"
    shown: ClassVar[tuple[str, ...]]
    best: ClassVar[str | None] = None

    largest: str = "step"
    options: Loop
    seed: Any
    fingerprint: Fingerprint
    steps_per_epoch: int
    units_per_step: int
    template: S
    description: str
    key: Hashable
    programs: Mapping[str, Program]
    compiler_options: Mapping[str, str | bool] = dataclasses.field(default_factory=dict)
    savings: Sequence[Saving] = ()
    devices: Devices
    stopping: StoppingRule | None = None
    runs: int | None = None

    def initial(self, functions: Functions) -> S:
        """The state before the first step."""
        return functions["init"](self.seed)

    @abc.abstractmethod
    def inputs(self, functions: Functions, state: S, epoch: int, first: int) -> Iterator[tuple[Any, ...]]:
        """What the steps of an epoch take besides the state, from place `first` of the epoch on."""

    def step(self, functions: Functions, state: S, inputs: tuple[Any, ...]) -> tuple[S, Mapping[str, Any]]:
        """One step with what `inputs` gave: the new state and metrics."""
        return functions["step"](state, *inputs)

    def evaluations(self, functions: Functions, state: S) -> Sequence[Evaluation]:
        """What is evaluated after each epoch."""
        return ()

    def after_epoch(self, functions: Functions, state: S, numbers: Mapping[str, float]) -> S:
        """The state with which the next epoch begins, after an epoch's evaluation."""
        del functions, numbers
        return state

    def notes(self, state: S) -> Mapping[str, Any]:
        """What of a state is worth a message when it changes from one epoch to the next."""
        return {}

    def messages(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> Sequence[str]:
        """What is said of the notes of two epochs that follow each other."""
        return ()

    def tests(self, functions: Functions, state: S) -> Sequence[Evaluation]:
        """What is evaluated once, at the end of the run, with the best state where one is kept."""
        return ()

    def epoch_genotype(self, state: S) -> AnyGenotype | None:
        """The genotype that an epoch leaves behind; None for none."""
        return None

    @abc.abstractmethod
    def record(self, state: S) -> dict[str, Any]:
        """What a checkpoint of one run holds for readers beside the arrays, in JSON data."""

    def facts(self, state: S) -> dict[str, Any]:
        """What a stopping rule reads of one run's epoch beside its numbers, in JSON data."""
        return {}

    @abc.abstractmethod
    def result(self, state: S, numbers: Mapping[str, Any], end: End) -> Result:
        """The result of one run.

        Args:
          state: the state at the end.
          numbers: of the last evaluation and of the tests.
          end: the rest of what is known at the end.
        """

    def placed(self, batch: Sequence[np.ndarray]) -> Any:
        """A batch of an evaluation on the devices: they share it, or each holds all of it where they share the runs."""
        if self.runs is not None:
            return self.devices.whole(batch)
        return self.devices.split([self.devices.share(each) for each in batch])
