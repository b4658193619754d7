"""The task of a search on images."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jdarts.budget.cost import places
from jdarts.derivation import derive_or_argmax
from jdarts.genotype import AnyGenotype, Genotype
from jdarts.methods.method import Method, method_fields
from jdarts.methods.mixture_record import MixtureRecord, mixture_record
from jdarts.methods.perturbation_selection import decisions_of
from jdarts.methods.questions import Score
from jdarts.methods.selection import ARGMAX
from jdarts.methods.stopping import RANKING
from jdarts.methods.verdict import Verdict, learnable_ranking, verdict_of_alphas
from jdarts.nets.stem import Stem
from jdarts.relaxation import NO_CONTROLS, alphas_on_host, alphas_to_json
from jdarts.runs import processes
from jdarts.runs.calls import Call
from jdarts.runs.controls import changed_controls, numbers_of_controls
from jdarts.runs.guards import due
from jdarts.runs.task import End, Evaluation, Functions, Task
from jdarts.search.budgets import SearchBudget
from jdarts.search.deciding import Deciding, decided_columns, news
from jdarts.search.images import SearchImages
from jdarts.search.large_images import LargeSearchImages
from jdarts.search.program import SearchState
from jdarts.search.step import AVERAGED, Images, Rows
from jdarts.search.summary import SearchResult
from jdarts.space import SearchSpace

SearchedImages = SearchImages | LargeSearchImages


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchTask(Task[SearchState]):
    """A search on images.

    Attributes:
      images: the two halves of the images.
      space: the search space.
      edges_per_node: edges that derivation keeps for each node.
      method: the search method; derivation uses its mixture.
      select: the rule by which cells are derived.
      measured_every: programs of `jdarts.runs.guards`, and after how many epochs each runs again.
      start: makes the state before the first step from a random one.
      deciding: a selection that decides on operations on the way; None for none.
      scores_by_batch: whether the program `score` normalises by the statistics of the batch.
      budget: bounds on the network of the derived cells; None for none.
      stem: stem of the supernet.
    """

    noun = "search"
    shown: tuple[str, ...] = (*AVERAGED, "learning_rate", "alphas/entropy")

    images: SearchedImages
    space: SearchSpace
    edges_per_node: int
    method: Method
    select: str
    measured_every: Mapping[str, int]
    start: Callable[[SearchState], SearchState] = lambda random: random
    deciding: Deciding | None = None
    scores_by_batch: bool = True
    budget: SearchBudget | None = None
    stem: Stem = "cifar"

    def initial(self, functions: Functions) -> SearchState:
        """The state before the first step."""
        return self.start(super().initial(functions))

    def calls(self, functions: Functions, state: SearchState, epoch: int, first: int) -> Iterator[Call]:
        """Images and rows of each call."""
        planned = self.plan(epoch, first)
        inputs = self._inputs(functions, state, epoch, [steps for _, steps in planned])
        for (program, steps), each in zip(planned, inputs):
            yield Call(program, each, len(steps))

    def step_program(self, index: int, epoch: int) -> str:
        """A step of the weights, with one of the alphas if the method has one now."""
        # What the last epoch of the search did holds between the decisions.
        like = epoch if self.deciding is None else min(epoch, self.deciding.search_epochs - 1)
        return self.method.program(index, like)

    def _inputs(
        self, functions: Functions, state: SearchState, epoch: int, calls: Sequence[range]
    ) -> Iterator[tuple[Images, Rows]]:
        """Images and rows of calls with these steps of an epoch."""

        def rows() -> Rows:
            return functions["rows"](state.data_key, np.int32(epoch))

        return self.images.epoch(rows, epoch, calls)

    def decides(self, epoch: int) -> bool:
        """Whether a round of decisions follows an epoch."""
        return self.deciding is not None and self.deciding.round_after(epoch) is not None

    def decided(self, functions: Functions, state: SearchState, epoch: int, between: Callable[[], None]) -> SearchState:
        """The state after a round of decisions."""
        deciding = self.deciding
        number = None if deciding is None else deciding.round_after(epoch)
        if deciding is None or number is None:
            return state
        columns, alphas = map(self._fetched, (state.decided, state.bilevel.alphas))
        found = decided_columns(
            deciding,
            number,
            [int(seed) for seed in np.atleast_1d(self.seed)],
            columns,
            [self._weights(each) for each in alphas],
            lambda mixtures, whole: self._scores(functions, state, mixtures, whole, between),
            self.epoch_steps.before(epoch),
        )
        if number == 0 and "restart" in functions:
            state = functions["restart"](state)
        return dataclasses.replace(state, decided=self._placed_runs(found))

    def _weights(self, alphas: Any) -> dict[str, np.ndarray]:
        """The mixture of one run's alphas."""
        weights = self.method.mixture.weights(alphas, self.space, None, NO_CONTROLS).operations
        return {kind: np.asarray(table, np.float32) for kind, table in weights.items()}

    def _scores(
        self,
        functions: Functions,
        state: SearchState,
        mixtures: Sequence[Mapping[str, np.ndarray]],
        whole: bool,
        between: Callable[[], None],
    ) -> list[Score]:
        """The scores of one mixture for each run."""
        evaluation = self._scored(functions, state, mixtures, whole=whole)
        losses, accuracies = map(np.atleast_1d, evaluation.means(between))
        return [Score(float(accuracy), float(loss)) for loss, accuracy in zip(losses, accuracies)]

    def _scored(
        self, functions: Functions, state: SearchState, mixtures: Sequence[Mapping[str, np.ndarray]], *, whole: bool
    ) -> Evaluation:
        """Loss and accuracy of the supernet at one mixture for each run."""
        placed = self._placed_runs(mixtures)
        # A batch that is not whole has other statistics.
        batches = (each for each in self.images.evaluation_batches() if np.all(each[-1]) or not self.scores_by_batch)
        limit = None if whole or self.deciding is None else self.deciding.batches

        def sums(*batch: Any) -> Any:
            return functions["score"](state, placed, *self.placed(batch))

        return Evaluation(
            "evaluating the cells",
            sums,
            itertools.islice(batches, limit),
            lambda means: {"evaluation/cells_accuracy": means[1]},
        )

    def tests(self, functions: Functions, state: SearchState) -> Sequence[Evaluation]:
        """The accuracy of the supernet with the operations of the derived cells alone, if it is wanted."""
        if "score" not in self.programs:
            return ()
        each = zip(*map(self._fetched, (state.bilevel.alphas, state.decided)))
        genotypes = [self._cells(alphas, decided)[0] for alphas, decided in each]
        return [self._scored(functions, state, [one_hot(cells, self.space) for cells in genotypes], whole=True)]

    def _placed_runs(self, parts: Sequence[Any]) -> Any:
        """The parts of each run as a compiled function takes them."""
        if self.runs is None:
            return self.devices.replicate(parts[0])
        stacked = jax.tree.map(lambda *leaves: self.devices.share(np.stack(leaves)), *parts)
        return self.devices.split(stacked)

    def after_epoch(self, functions: Functions, state: SearchState, numbers: Mapping[str, float]) -> SearchState:
        """The state with the multipliers of the next epoch."""
        del functions, numbers
        if self.budget is None or not state.multipliers:
            return state
        found = [
            self.budget.after_epoch(multipliers, alphas, self._epochs_done(state) - 1)
            for multipliers, alphas in zip(*map(self._fetched, (state.multipliers, state.bilevel.alphas)))
        ]
        return dataclasses.replace(state, multipliers=self._placed_runs(found))

    def _epochs_done(self, state: SearchState) -> int:
        return int(self.epoch_steps.epoch(int(np.max(processes.fetch(state.step)))))

    def _fetched(self, tree: Any) -> list[Any]:
        """The part of each run, on the host."""
        whole = processes.fetch(tree)
        if self.runs is None:
            return [whole]
        return [jax.tree.map(lambda leaf, run=run: leaf[run], whole) for run in range(self.runs)]

    def notes(self, state: SearchState) -> Mapping[str, Any]:
        """What is decided, and how the alphas stand against the budget."""
        notes: dict[str, Any] = {}
        if self.deciding is not None:
            notes["decided"] = self._fetched(state.decided)
        if self.budget is not None:
            each = zip(*map(self._fetched, (state.bilevel.alphas, state.multipliers)))
            notes["budget"] = [self.budget.line(*parts) for parts in each]
        return notes

    def messages(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> Sequence[str]:
        """The decisions of an epoch, and how the alphas stand against the budget where that has changed."""
        lines: list[tuple[Any, str]] = []
        seeds = np.atleast_1d(self.seed)
        if self.deciding is not None:
            each = zip(seeds, before["decided"], after["decided"])
            lines += [(seed, line) for seed, old, new in each for line in news(self.space, old, new)]
        if self.budget is not None:
            each = zip(seeds, before["budget"], after["budget"])
            lines += [(seed, new) for seed, old, new in each if new != old]
        return [line if self.runs is None else f"seed {seed}: {line}" for seed, line in lines]

    def evaluations(self, functions: Functions, state: SearchState) -> Sequence[Evaluation]:
        """Loss and accuracy on the alphas' half with running statistics, without augmentation."""

        def sums(*batch: Any) -> Any:
            return functions["evaluate"](state, *self.placed(batch))

        def numbers(means: np.ndarray) -> Mapping[str, Any]:
            return dict(zip(("evaluation/loss", "evaluation/accuracy"), means))

        return (Evaluation("evaluating", sums, self.images.evaluation_batches(), numbers),)

    def measures(self, epoch: int) -> Sequence[str]:
        """The first epoch has every measurement, and the last."""
        return due(self.measured_every, epoch, self.options.epochs)

    def measured(self, functions: Functions, state: SearchState, epoch: int) -> dict[str, Any]:
        """Numbers of `jdarts.runs.guards` on the batches of the epoch's last step."""
        last = range(self.steps_per_epoch - 1, self.steps_per_epoch)
        inputs = next(self._inputs(functions, state, epoch - 1, [last]))
        found = [functions[name](state, *inputs) for name in self.measures(epoch)]
        return {name: value for each in found for name, value in each.items()}

    def judged(self, state: SearchState, genotype: Genotype | None, before: AnyGenotype | None) -> Mapping[str, float]:
        """Margins, skips, changes of the genotype, and the controls of the run."""
        controls = numbers_of_controls(state.controls)
        if genotype is None:
            return controls
        # Whether `argmax` has chosen the cells, since the rule leaves none.
        replaced = {"guards/by_argmax": float(self._cells_of(state)[1] != "")} if self.select != ARGMAX else {}
        costs = {}
        if self.budget is not None:
            costs = self.budget.numbers(genotype, alphas_on_host(state.bilevel.alphas), state.multipliers)
        return {**self._verdict(state, genotype, before).numbers(), **replaced, **controls, **costs}

    def with_controls(self, state: SearchState, controls: Mapping[str, float]) -> SearchState:
        """The state with another weight decay."""
        return dataclasses.replace(state, controls=changed_controls(state.controls, controls))

    def _verdict(self, state: SearchState, genotype: Genotype, before: AnyGenotype | None = None) -> Verdict:
        alphas = alphas_on_host(state.bilevel.alphas)
        return verdict_of_alphas(alphas, genotype, self.space, self.method.mixture, before=before)

    def epoch_genotype(self, state: SearchState) -> Genotype | None:
        """The genotype of the present alphas; None before the decisions of a search without alphas."""
        if not self.method.mixture.has_alphas and decisions_of(state.decided).undecided:
            return None
        return self._cells_of(state)[0]

    def _cells_of(self, state: SearchState) -> tuple[Genotype, str]:
        """The genotype of a state, and a remark where the rule of selection leaves none."""
        return self._cells(alphas_on_host(state.bilevel.alphas), state.decided)

    def _cells(self, alphas: Any, decided: Mapping[str, Any]) -> tuple[Genotype, str]:
        """The genotype of alphas and decisions, and a remark where the rule of selection leaves none."""
        return derive_or_argmax(
            alphas,
            self.space,
            edges_per_node=self.edges_per_node,
            mixture=self.method.mixture,
            select=self.select,
            decisions=decisions_of(decided) if decided else None,
            limits=() if self.budget is None else self.budget.limits,
        )

    def epoch_mixture(self, state: SearchState) -> MixtureRecord:
        """The mixture of the present alphas."""
        return mixture_record(state.bilevel.alphas, self.space, self.method.mixture)

    def record(self, state: SearchState) -> dict[str, Any]:
        """The record for `jdarts.derive`: search space, alphas and method."""
        return {
            "space": dataclasses.asdict(self.space),
            "alphas": alphas_to_json(state.bilevel.alphas),
            "edges_per_node": self.edges_per_node,
            **method_fields(self.method),
            **({} if self.select == ARGMAX else {"select": self.select}),
            **({} if self.stem == "cifar" else {"network": self.stem}),
            **({"decisions": decisions_of(state.decided).to_json()} if state.decided else {}),
            **({} if self.budget is None else {"budget": dict(self.budget.content)}),
        }

    def facts(self, state: SearchState, genotype: Genotype) -> dict[str, Any]:
        """Alphas, genotype and the ranking of operations."""
        alphas = alphas_on_host(state.bilevel.alphas)
        return {
            "alphas": alphas_to_json(alphas),
            "genotype": json.loads(genotype.to_json()),
            RANKING: learnable_ranking(self.method.mixture.strengths(alphas, self.space), self.space),
        }

    def result(self, state: SearchState, numbers: Mapping[str, Any], end: End) -> SearchResult:
        """Cells and alphas at the end."""
        accuracy, alone = numbers["evaluation/accuracy"], numbers.get("evaluation/cells_accuracy")
        alphas = alphas_on_host(state.bilevel.alphas)
        genotype, remark = self._cells(alphas, state.decided)
        verdict = self._verdict(state, genotype).to_json()
        if remark:
            verdict["text"] = [*verdict["text"], remark]
        if self.deciding is not None:
            words, lines = self.deciding.words(decisions_of(state.decided)), verdict["text"]
            verdict["text"] = [words, *(lines if self.method.mixture.has_alphas else lines[1:])]
        if self.budget is not None:
            stands = self.budget.result(genotype, alphas)
            verdict |= {**stands, "text": [*stands["text"], *verdict["text"]]}
        return SearchResult(
            genotype, alphas, float(accuracy), end.folder, verdict, None if alone is None else float(alone)
        )


def one_hot(genotype: Genotype, space: SearchSpace) -> dict[str, np.ndarray]:
    """The mixture of the operations of a genotype alone, each with weight 1.

    Args:
      genotype: cells of the space.
      space: the search space.
    """
    tables: dict[str, np.ndarray] = {}
    for kind in space.kinds:
        tables[kind] = table = np.zeros((space.num_edges, space.width(kind)), np.float32)
        for place in places(genotype, space, kind):
            table[place] = 1.0
    return tables
