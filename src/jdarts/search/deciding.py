"""Selections that score the supernet after the epochs of a search, and train it between their rounds of decisions."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from jdarts.baselines import darts_architectures
from jdarts.baselines.architectures import UNUSED
from jdarts.baselines.weight_sharing import baseline_for, rounds_for, select_cells
from jdarts.methods.perturbation_selection import (
    Criterion,
    Decisions,
    Step,
    columns_of,
    decide_round,
    decisions_of,
    described,
    plan,
)
from jdarts.methods.questions import Asking, Question, Score, Tables, answered_together
from jdarts.space import SearchSpace

#: Folded into the seed of a search for the order of its decisions.
_ORDER = 0x5E1EC7


class Deciding(Protocol):
    """A selection on the supernet.

    Attributes:
      search_epochs: epochs of the search before the first round.
      epochs: epochs of the whole run.
      batches: batches that score a supernet; None for all whole ones.
      learning_rate: the weights' learning rate after the search's epochs; None for that of its schedule.
      plan_words: what follows the search's epochs, for the line at its start.
    """

    @property
    def search_epochs(self) -> int: ...  # noqa: D102

    @property
    def epochs(self) -> int: ...  # noqa: D102

    @property
    def batches(self) -> int | None: ...  # noqa: D102

    @property
    def learning_rate(self) -> float | None: ...  # noqa: D102

    @property
    def plan_words(self) -> str: ...  # noqa: D102

    def words(self, decisions: Decisions) -> str:
        """How the cells were decided, in plain words, for the result."""
        ...

    def round_after(self, epoch: int) -> int | None:
        """The round of decisions at the end of an epoch, from 0; None for none. Epochs count from 1."""
        ...

    def asking(self, number: int, seed: int, decisions: Decisions, weights: Tables, steps: int) -> Asking[Decisions]:
        """A round of one run.

        Args:
          number: of the round.
          seed: of the run.
          decisions: those before it.
          weights: `{kind: [E, O]}`, the mixture of the present alphas.
          steps: steps that the supernet has been trained.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Perturbation:
    """DARTS-PT.

    Attributes:
      space: the search space.
      search_epochs: epochs of the search before the first round.
      epochs_between: epochs of training between two rounds.
      batches: batches that score a supernet; None for all whole ones.
      criterion: what compares supernets.
      learning_rate: the weights' learning rate between the rounds.
      inputs: how many inputs a node keeps.
    """

    space: SearchSpace
    search_epochs: int
    epochs_between: int
    batches: int | None
    criterion: Criterion
    learning_rate: float | None
    inputs: int

    @property
    def epochs(self) -> int:
        """Epochs of the whole run: it ends with the last round."""
        return self.search_epochs + self.epochs_between * (self.rounds - 1)

    @property
    def rounds(self) -> int:
        """Number of rounds."""
        return len(self._plan(0))

    @property
    def plan_words(self) -> str:
        """As `Deciding` has it."""
        return (
            f"after epoch {self.search_epochs} {self.rounds} rounds of decisions by perturbation, "
            f"{self.epochs_between} epoch{'s' if self.epochs_between > 1 else ''} from one to the next"
        )

    def words(self, decisions: Decisions) -> str:
        """As `Deciding` has it."""
        edges = sum(map(len, decisions.operations.values()))
        return (
            f"perturbation of the supernet has decided on {edges - decisions.undecided} of {edges} edges; by the alphas alone "
            "the search would be:"
        )

    def round_after(self, epoch: int) -> int | None:
        """As `Deciding` has it."""
        since = epoch - self.search_epochs
        return since // self.epochs_between if since >= 0 and since % self.epochs_between == 0 else None

    def asking(self, number: int, seed: int, decisions: Decisions, weights: Tables, steps: int) -> Asking[Decisions]:
        """As `Deciding` has it."""
        del steps
        return decide_round(decisions, self._plan(seed)[number], self.space, weights, self.criterion, self.inputs)

    def _plan(self, seed: int) -> tuple[tuple[Step, ...], ...]:
        return plan(self.space, jax.random.fold_in(jax.random.key(seed), _ORDER), inputs=self.inputs)


@dataclasses.dataclass(frozen=True)
class SharedWeights:
    """Cells that a baseline proposes, scored by the weights that random cells have trained.

    The candidates have no `none`, so that their nodes keep all their edges.

    Attributes:
      space: the search space.
      search_epochs: epochs of the search.
      batches: batches that score a candidate.
      baseline: a row of `jdarts.baselines.BASELINES`.
      candidates: proposals of a round.
      finalists: the best of them, which all batches score.
      inputs: how many inputs a node has.
    """

    space: SearchSpace
    search_epochs: int
    batches: int | None
    baseline: str
    candidates: int
    finalists: int
    inputs: int

    #: The schedule's.
    learning_rate: None = None

    @property
    def epochs(self) -> int:
        """As `Deciding` has it."""
        return self.search_epochs

    @property
    def plan_words(self) -> str:
        """As `Deciding` has it."""
        return (
            f"a random cell for each batch, and after the last epoch {self.candidates:,} candidates by {self.baseline}"
        )

    def words(self, decisions: Decisions) -> str:
        """As `Deciding` has it."""
        del decisions
        return f"the weights that random cells have trained have chosen these cells, among proposals by {self.baseline}"

    def round_after(self, epoch: int) -> int | None:
        """As `Deciding` has it."""
        return 0 if epoch == self.search_epochs else None

    def asking(self, number: int, seed: int, decisions: Decisions, weights: Tables, steps: int) -> Asking[Decisions]:
        """As `Deciding` has it."""
        del number, weights
        if not decisions.undecided:
            return decisions
        best = yield from select_cells(
            baseline_for(self.baseline, self.candidates),
            darts_architectures(self.space, edges_per_node=self.inputs),
            jax.random.fold_in(jax.random.key(seed), _ORDER),
            rounds_for(steps),
            candidates=self.candidates,
            finalists=self.finalists,
        )
        rows = dict(zip(self.space.kinds, best.architecture, strict=True))
        return Decisions(
            {kind: tuple(np.where(row == UNUSED, 0, row).tolist()) for kind, row in rows.items()},
            {kind: tuple(np.flatnonzero(row == UNUSED).tolist()) for kind, row in rows.items()},
        )


def decided_columns(
    deciding: Deciding,
    number: int,
    seeds: Sequence[int],
    columns: Sequence[Mapping[str, Any]],
    weights: Sequence[Tables],
    evaluate: Callable[[Sequence[Tables], bool], Sequence[Score]],
    steps: int,
) -> list[dict[str, np.ndarray]]:
    """Makes the decisions of a round in one or more runs.

    Args:
      deciding: the selection.
      number: of the round.
      seeds: of the runs.
      columns: the decisions before it, as `columns_of` makes them.
      weights: the mixture of each run's present alphas.
      evaluate: from one mixture for each run, and whether all images count, to their scores.
      steps: steps that the supernets have been trained.

    Returns:
      The decisions of each run, as `columns_of` makes them.
    """

    def scores(questions: Sequence[Question]) -> Sequence[Score]:
        return evaluate([question.mixture for question in questions], questions[0].whole)

    askings = [
        deciding.asking(number, seed, decisions_of(own), tables, steps)
        for seed, own, tables in zip(seeds, columns, weights, strict=True)
    ]
    return [columns_of(decisions) for decisions in answered_together(askings, scores)]


def news(space: SearchSpace, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """What has been decided between two states of one run, in plain words."""
    yield from described(decisions_of(after), decisions_of(before), space)
