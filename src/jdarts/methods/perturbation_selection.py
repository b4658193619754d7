"""Selection by perturbation (DARTS-PT; Wang et al. 2021): what the supernet loses without an operation decides, not the alphas.

One edge after the other, in random order, keeps the operation without which the supernet is worst. Then one node after the other
keeps the two inputs without which it is worst. Between these decisions the supernet is trained, with what is decided held
fixed. The plan is drawn in advance, so that a search that is killed resumes after its last step.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.errors import InputError
from jdarts.methods.questions import Asking, Question, Score, Tables
from jdarts.operations import NONE
from jdarts.relaxation import MixtureWeights
from jdarts.space import CELL_KINDS, CELL_NAMES, CellKind, SearchSpace

Criterion = Literal["accuracy", "loss"]
#: The column of an edge without a decision. A deleted edge has `-3 - column`.
_UNDECIDED = -1
Action = Literal["operation", "inputs"]

#: Epochs of training between two rounds, and inputs of a node, in the authors' runs.
EPOCHS_BETWEEN, INPUTS = 5, 2


class Step(NamedTuple):
    """A decision of the plan.

    Attributes:
      action: whether it is on the operation of an edge, or on the inputs of a node.
      kind: the kind of cell.
      place: index of the edge, or number of the node.
    """

    action: Action
    kind: CellKind
    place: int


@dataclasses.dataclass(frozen=True)
class Decisions:
    """What is decided so far.

    Attributes:
      operations: for each kind of cell and edge the column of its operation; -1 if it is not decided yet.
      deleted: for each kind of cell the edges that are deleted.
    """

    operations: Mapping[str, tuple[int, ...]]
    deleted: Mapping[str, tuple[int, ...]]

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Any, space: SearchSpace) -> "Decisions":
        """The decisions of the data that `to_json` makes.

        Args:
          fields: the data.
          space: the search space.

        Raises:
          InputError: they do not fit the space.
        """
        try:
            operations, deleted = ({kind: tuple(fields[name][kind]) for kind in space.kinds} for name in _FIELDS)
            for kind in space.kinds:
                widths = [len(names) for names in space.operations(kind)]
                fitting = all(
                    _UNDECIDED <= column < width for column, width in zip(operations[kind], widths, strict=True)
                )
                if not fitting or not set(deleted[kind]) <= set(range(space.num_edges)):
                    raise ValueError(kind)
        except (TypeError, KeyError, ValueError):
            raise InputError("the decisions of the checkpoint are damaged; use an earlier one of the search") from None
        return cls(operations, deleted)

    @property
    def undecided(self) -> int:
        """Number of edges whose operation is not decided."""
        return sum(column == _UNDECIDED for columns in self.operations.values() for column in columns)


_FIELDS = ("operations", "deleted")


def undecided(space: SearchSpace) -> Decisions:
    """No decision yet."""
    return Decisions(
        {kind: (_UNDECIDED,) * space.num_edges for kind in space.kinds}, {kind: () for kind in space.kinds}
    )


def check_space(space: SearchSpace) -> None:
    """Checks that the selection can decide in a space.

    Raises:
      InputError: it has `none`, which such a selection cannot leave out of the cells.
    """
    if any(NONE in names for kind in space.kinds for names in space.operations(kind)):
        raise InputError("the selection by perturbation needs a space without none; leave it out of --operations")


def plan(space: SearchSpace, key: jax.Array, *, inputs: int = INPUTS) -> tuple[tuple[Step, ...], ...]:
    """The rounds of a selection, each with a decision for each kind of cell; between two rounds the supernet is trained.

    Args:
      space: the search space.
      key: of the order of the edges, and of the nodes that have more inputs than they keep.
      inputs: how many a node keeps.
    """
    nodes = [node for node, edges in enumerate(space.incoming) if len(edges) > inputs]
    rounds: list[tuple[Step, ...]] = []
    decided: Mapping[Action, Sequence[int]] = {"operation": range(space.num_edges), "inputs": nodes}
    for number, (action, places) in enumerate(decided.items()):
        keys = jax.random.split(jax.random.fold_in(key, number), len(space.kinds))
        orders = [np.array(places, int)[np.asarray(jax.random.permutation(k, len(places)))] for k in keys]
        for chosen in zip(*orders):
            rounds.append(tuple(Step(action, kind, int(place)) for kind, place in zip(space.kinds, chosen)))
    return tuple(rounds)


def mixture_of_decisions(weights: Tables, decisions: Decisions) -> dict[str, np.ndarray]:
    """The mixture with decided edges at 1 for their operation, and deleted edges at 0.

    Args:
      weights: `{kind: [E, O]}`.
      decisions: what is decided.
    """
    mixture = {kind: np.array(table) for kind, table in weights.items()}
    for kind, table in mixture.items():
        for edge, column in enumerate(decisions.operations[kind]):
            if column != _UNDECIDED:
                table[edge] = 0.0
                table[edge, column] = 1.0
        table[list(decisions.deleted[kind])] = 0.0
    return mixture


def columns_of(decisions: Decisions) -> dict[str, np.ndarray]:
    """The decisions as arrays for a program: for each kind of cell the column of each edge, int32 `[E]`, -1 where it is not
    decided and below -1 where the edge is deleted."""
    columns = {}
    for kind in decisions.operations:
        columns[kind] = np.array(decisions.operations[kind], np.int32)
        deleted = list(decisions.deleted[kind])
        columns[kind][deleted] = -3 - columns[kind][deleted]
    return columns


def decisions_of(columns: Mapping[str, Any]) -> Decisions:
    """The decisions of the arrays that `columns_of` makes."""
    arrays: dict[CellKind, np.ndarray] = {kind: np.asarray(columns[kind]) for kind in CELL_KINDS if kind in columns}
    return Decisions(
        {kind: tuple(np.where(array < _UNDECIDED, -3 - array, array).tolist()) for kind, array in arrays.items()},
        {kind: tuple(np.flatnonzero(array < _UNDECIDED).tolist()) for kind, array in arrays.items()},
    )


def with_decisions(mixture: MixtureWeights, columns: Mapping[str, Any]) -> MixtureWeights:
    """A mixture in a program with what is decided in its place, without a gradient.

    Args:
      mixture: the factors of operations and edges.
      columns: as `columns_of` makes them, so that nothing is compiled again when a decision falls.
    """
    tables = {}
    for kind, table in mixture.operations.items():
        own = jnp.broadcast_to(columns[kind], table.shape[:-1])[..., None]
        # The column of a deleted edge is none of the table's, so that its row is 0.
        one_hot = jax.nn.one_hot(own[..., 0], table.shape[-1], dtype=table.dtype)
        tables[kind] = jnp.where(own == _UNDECIDED, table, one_hot)
    return without_empty_edges(mixture._replace(operations=tables))


def without_empty_edges(mixture: MixtureWeights) -> MixtureWeights:
    """A mixture in a program with a factor of 0 for edges all of whose operations have weight 0.

    So nothing else passes through them either, such as the channels that partial channels leave out.
    """
    edges = {}
    for kind, table in mixture.operations.items():
        there = jnp.any(table != 0, axis=-1).astype(table.dtype)
        edges[kind] = there if mixture.edges is None else there * jnp.broadcast_to(mixture.edges[kind], there.shape)
    return mixture._replace(edges=edges)


def decide_round(
    decisions: Decisions,
    steps: Sequence[Step],
    space: SearchSpace,
    weights: Tables,
    criterion: Criterion = "accuracy",
    inputs: int = INPUTS,
) -> Asking[Decisions]:
    """Makes the decisions of a round one after the other; each sees those before it. What is decided already stays.

    Args:
      decisions: what is decided.
      steps: the round.
      space: the search space.
      weights: `{kind: [E, O]}`, the mixture of the present alphas.
      criterion: what compares supernets.
      inputs: how many a node keeps.
    """
    for step in steps:
        if is_decided(step, decisions, space):
            continue
        if step.action == "operation":
            decisions = yield from decide_operation(decisions, step.kind, step.place, space, weights, criterion)
        else:
            decisions = yield from decide_inputs(decisions, step.kind, step.place, space, weights, criterion, inputs)
    return decisions


def is_decided(step: Step, decisions: Decisions, space: SearchSpace) -> bool:
    """Whether the decision of a step of the plan has been made."""
    if step.action == "operation":
        return decisions.operations[step.kind][step.place] != _UNDECIDED
    return any(edge in decisions.deleted[step.kind] for edge in space.incoming[step.place])


def decide_operation(
    decisions: Decisions,
    kind: CellKind,
    edge: int,
    space: SearchSpace,
    weights: Tables,
    criterion: Criterion = "accuracy",
) -> Asking[Decisions]:
    """Decides the operation of an edge: the one whose removal leaves the worst supernet, the first one among equals.

    An operation is removed by a weight of 0; the other weights stay as they are.
    """
    mixture = mixture_of_decisions(weights, decisions)
    scores: list[float] = []
    count = len(space.operations(kind)[edge])
    for column in range(count if count > 1 else 0):
        scores.append(_badness((yield Question(_without(mixture, kind, edge, column))), criterion))
    decided = list(decisions.operations[kind])
    decided[edge] = int(np.argmax(scores)) if scores else 0
    return dataclasses.replace(decisions, operations={**decisions.operations, kind: tuple(decided)})


def decide_inputs(
    decisions: Decisions,
    kind: CellKind,
    node: int,
    space: SearchSpace,
    weights: Tables,
    criterion: Criterion = "accuracy",
    inputs: int = INPUTS,
) -> Asking[Decisions]:
    """Keeps the inputs of a node without which the supernet is worst; the earlier ones among equals.

    Each input is judged by the supernet that lacks it alone.
    """
    edges = space.incoming[node]
    mixture = mixture_of_decisions(weights, decisions)
    scores: dict[int, float] = {}
    for edge in edges:
        scores[edge] = _badness((yield Question(_without(mixture, kind, edge, slice(None)))), criterion)
    # The sort is stable.
    kept = sorted(edges, key=lambda edge: -scores[edge])[:inputs]
    deleted = (*decisions.deleted[kind], *(edge for edge in edges if edge not in kept))
    return dataclasses.replace(decisions, deleted={**decisions.deleted, kind: tuple(sorted(deleted))})


def described(decisions: Decisions, before: Decisions, space: SearchSpace) -> list[str]:
    """What has been decided since, in plain words, one line for each kind of cell with a new decision."""
    lines = []
    for kind in space.kinds:
        parts = []
        for edge, (source, target) in enumerate(space.edges):
            column = decisions.operations[kind][edge]
            if column != before.operations[kind][edge] and edge not in decisions.deleted[kind]:
                parts.append(f"{space.operations(kind)[edge][column]} on edge {source} to {target}")
        gone = [space.edges[edge] for edge in sorted({*decisions.deleted[kind]} - {*before.deleted[kind]})]
        parts += [f"edge {source} to {target} deleted" for source, target in gone]
        if parts:
            lines.append(f"decided in the {CELL_NAMES[kind]}: {', '.join(parts)}")
    return lines


def _without(mixture: Tables, kind: CellKind, edge: int, columns: int | slice) -> dict[str, np.ndarray]:
    table = mixture[kind].copy()
    table[edge, columns] = 0.0
    return {**mixture, kind: table}


def _badness(score: Score, criterion: Criterion) -> float:
    return -score.accuracy if criterion == "accuracy" else score.loss
