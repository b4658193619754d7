"""Selection by perturbation (DARTS-PT; Wang et al. 2021): what the supernet loses without an operation decides, not the alphas.

One edge after the other, in random order, keeps the operation without which the supernet is worst. Then one node after the other
keeps the two inputs without which it is worst. Between these decisions the supernet is trained, with what is decided held
fixed. The plan is drawn in advance, so that a search that is killed resumes after its last step.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.errors import InputError
from jdarts.genotype import INPUT_STATES, Genotype
from jdarts.methods.selection import argmax
from jdarts.operations import NONE
from jdarts.relaxation import Alphas, Controls, Mixture, MixtureWeights, Space
from jdarts.space import CELL_KINDS, CellKind, SearchSpace

S = TypeVar("S")
Tables = Mapping[str, np.ndarray]
Criterion = Literal["accuracy", "loss"]
#: Codes beside the columns of operations.
_UNDECIDED, _DELETED = -1, -2
Action = Literal["operation", "inputs", "train"]

#: Epochs of training between two rounds, and inputs of a node, in the authors' runs.
EPOCHS_BETWEEN, INPUTS = 5, 2


class Score(NamedTuple):
    """What the supernet reaches on the validation half at a mixture: with batch statistics, means over images."""

    accuracy: float
    loss: float


class Supernet(NamedTuple, Generic[S]):
    """What the selection does with a supernet whose state it does not look into.

    Attributes:
      weights: `state -> {kind: [E, O]}`, the mixture of the present alphas.
      evaluate: `(state, mixture) -> Score`.
      train: `(state, decisions, epochs) -> state`; weights and alphas are trained under `mixture_of` the decisions.
    """

    weights: Callable[[S], Tables]
    evaluate: Callable[[S, Tables], Score]
    train: "Callable[[S, Decisions, int], S]"


class Step(NamedTuple):
    """A step of the plan.

    Attributes:
      action: to decide the operation of an edge or the inputs of a node, or to train.
      kind: the kind of cell; empty for training.
      place: index of the edge, number of the node, or number of epochs.
    """

    action: Action
    kind: str
    place: int


@dataclasses.dataclass(frozen=True)
class Decisions:
    """What is decided so far.

    Attributes:
      step: how many steps of the plan are done.
      operations: for each kind of cell and edge the column of its operation; -1 if it is not decided yet.
      deleted: for each kind of cell the edges that are deleted.
    """

    step: int
    operations: Mapping[str, tuple[int, ...]]
    deleted: Mapping[str, tuple[int, ...]]

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Decisions":
        """The decisions of the data that `to_json` makes."""
        by_kind = ({kind: tuple(fields[name][kind]) for kind in CELL_KINDS} for name in ("operations", "deleted"))
        return cls(fields["step"], *by_kind)


def undecided(space: SearchSpace) -> Decisions:
    """No decision yet.

    Raises:
      InputError: the space has `none`, which such a selection cannot leave out of the cells.
    """
    if any(NONE in names for kind in CELL_KINDS for names in space.operations(kind)):
        raise InputError("the selection by perturbation needs a space without none; leave it out of --operations")
    return Decisions(
        0, {kind: (_UNDECIDED,) * space.num_edges for kind in CELL_KINDS}, {kind: () for kind in CELL_KINDS}
    )


def plan(space: SearchSpace, key: jax.Array, *, epochs_between: int = EPOCHS_BETWEEN) -> tuple[Step, ...]:
    """All steps of a selection: rounds of a decision for each kind of cell, with training between them.

    Args:
      space: the search space.
      key: of the order of the edges, and of the nodes that have more than two inputs.
      epochs_between: epochs of training between two rounds.
    """
    nodes = [node for node in range(space.nodes) if INPUT_STATES + node > INPUTS]
    steps: list[Step] = []
    decided: Mapping[Action, Sequence[int]] = {"operation": range(space.num_edges), "inputs": nodes}
    for number, (action, places) in enumerate(decided.items()):
        keys = jax.random.split(jax.random.fold_in(key, number), len(CELL_KINDS))
        orders = [np.array(places, int)[np.asarray(jax.random.permutation(k, len(places)))] for k in keys]
        for chosen in zip(*orders):
            steps += [Step(action, kind, int(place)) for kind, place in zip(CELL_KINDS, chosen)]
            steps.append(Step("train", "", epochs_between))
    # Nothing is left to decide after the last round.
    return tuple(steps[:-1])


def mixture_of(weights: Tables, decisions: Decisions) -> dict[str, np.ndarray]:
    """The mixture with decided edges at 1 for their operation, and deleted edges at 0.

    Args:
      weights: `{kind: [E, O]}`.
      decisions: what is decided.
    """
    mixture = {kind: np.array(weights[kind]) for kind in CELL_KINDS}
    for kind, table in mixture.items():
        for edge, column in enumerate(decisions.operations[kind]):
            if column != _UNDECIDED:
                table[edge] = 0.0
                table[edge, column] = 1.0
        table[list(decisions.deleted[kind])] = 0.0
    return mixture


def with_decisions(mixture: Mixture) -> Mixture:
    """A mixture for training between the decisions: what is decided is fixed and has no gradient.

    Its controls hold `controls_of` the decisions, so that nothing is compiled again when they change.
    """

    def weights(alphas: Alphas, space: Space, key: jax.Array | None, controls: Controls) -> MixtureWeights:
        free = mixture.weights(alphas, space, key, controls)
        tables = {}
        for kind, table in free.operations.items():
            columns = jnp.broadcast_to(controls[f"decided/{kind}"], table.shape[:-1])
            # A column of a deleted edge is none of the table's, so that its row is 0.
            one_hot = jax.nn.one_hot(columns, table.shape[-1], dtype=table.dtype)
            tables[kind] = jnp.where(columns[..., None] == _UNDECIDED, table, one_hot)
        return free._replace(operations=tables)

    return dataclasses.replace(mixture, weights=weights)


def controls_of(decisions: Decisions) -> dict[str, np.ndarray]:
    """The controls of `with_decisions`: for each kind of cell the column of each edge, int32 `[E]`, with codes for undecided and
    for deleted edges."""
    controls = {}
    for kind in CELL_KINDS:
        columns = np.array(decisions.operations[kind], np.int32)
        columns[list(decisions.deleted[kind])] = _DELETED
        controls[f"decided/{kind}"] = columns
    return controls


def decide_operation(
    decisions: Decisions,
    kind: CellKind,
    edge: int,
    space: SearchSpace,
    weights: Tables,
    evaluate: Callable[[Tables], Score],
    criterion: Criterion = "accuracy",
) -> Decisions:
    """Decides the operation of an edge: the one whose removal leaves the worst supernet, the first one among equals.

    An operation is removed by a weight of 0; the other weights stay as they are.
    """
    mixture = mixture_of(weights, decisions)
    columns = range(len(space.operations(kind)[edge]))
    chosen = 0
    if len(columns) > 1:
        chosen = max(columns, key=lambda column: _badness(evaluate(_without(mixture, kind, edge, column)), criterion))
    decided = list(decisions.operations[kind])
    decided[edge] = chosen
    return dataclasses.replace(decisions, operations={**decisions.operations, kind: tuple(decided)})


def decide_inputs(
    decisions: Decisions,
    kind: CellKind,
    node: int,
    space: SearchSpace,
    weights: Tables,
    evaluate: Callable[[Tables], Score],
    criterion: Criterion = "accuracy",
) -> Decisions:
    """Keeps the two inputs of a node without which the supernet is worst; the earlier ones among equals.

    Each input is judged by the supernet that lacks it alone.
    """
    edges = [edge for edge, (_, target) in enumerate(space.edges) if target == INPUT_STATES + node]
    mixture = mixture_of(weights, decisions)
    scores = {edge: _badness(evaluate(_without(mixture, kind, edge, slice(None))), criterion) for edge in edges}
    # The sort is stable.
    kept = sorted(edges, key=lambda edge: -scores[edge])[:INPUTS]
    deleted = (*decisions.deleted[kind], *(edge for edge in edges if edge not in kept))
    return dataclasses.replace(decisions, deleted={**decisions.deleted, kind: deleted})


def select(
    state: S,
    decisions: Decisions,
    steps: tuple[Step, ...],
    space: SearchSpace,
    supernet: Supernet[S],
    *,
    criterion: Criterion = "accuracy",
    save: Callable[[S, Decisions], None] = lambda state, decisions: None,
) -> tuple[S, Decisions]:
    """Does the steps of a plan that are not done yet.

    Args:
      state: of the supernet, as it was when `decisions` were made.
      decisions: `undecided(space)`, or those of a selection that was interrupted.
      steps: the plan.
      space: the search space.
      supernet: what trains and evaluates.
      criterion: what compares supernets.
      save: called after each step.

    Returns:
      The last state, and the decisions.
    """
    decide = {"operation": decide_operation, "inputs": decide_inputs}
    for step in steps[decisions.step :]:
        if step.action == "train":
            state = supernet.train(state, decisions, step.place)
        else:
            kind: CellKind = "normal" if step.kind == "normal" else "reduce"
            evaluate = functools.partial(supernet.evaluate, state)
            weights = supernet.weights(state)
            decisions = decide[step.action](decisions, kind, step.place, space, weights, evaluate, criterion)
        decisions = dataclasses.replace(decisions, step=decisions.step + 1)
        save(state, decisions)
    return state, decisions


def decided_genotype(decisions: Decisions, space: SearchSpace) -> Genotype:
    """The cells of a finished selection; the edges of a node are ordered by their sources.

    Raises:
      InputError: an edge is not decided.
    """
    if any(column == _UNDECIDED for kind in CELL_KINDS for column in decisions.operations[kind]):
        raise InputError("the selection by perturbation has not decided all edges; resume the search")
    weights = {kind: np.zeros((space.num_edges, space.width(kind))) for kind in CELL_KINDS}
    return argmax(mixture_of(weights, decisions), space, INPUTS)


def _without(mixture: Tables, kind: CellKind, edge: int, columns: int | slice) -> dict[str, np.ndarray]:
    table = mixture[kind].copy()
    table[edge, columns] = 0.0
    return {**mixture, kind: table}


def _badness(score: Score, criterion: Criterion) -> float:
    return -score.accuracy if criterion == "accuracy" else score.loss
