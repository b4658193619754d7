"""How discrete cells are chosen from the strengths of a search's operations: one row for each rule.

Every row of `SELECTIONS` is a rule for `--select NAME` of `python -m jdarts.derive`: a pure function of tables on the host.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from jdarts.errors import InputError, NoCellsError, shown
from jdarts.genotype import Cell, Edge, Genotype, genotype_of_cells, genotype_of_nodes
from jdarts.operations import NONE, OPERATIONS
from jdarts.relaxation import Space, candidate_mask, edges_of, operations_of
from jdarts.space import CellKind, SearchSpace

#: `{kind: [E, O]}`, a number for each operation of each edge, the larger the stronger.
Tables = Mapping[str, np.ndarray]
#: `(tables, space, edges per node) -> genotype`.
Select = Callable[[Tables, SearchSpace, int], Genotype]
ARGMAX = "argmax"
#: The rule of `jdarts.methods.perturbation_selection`, whose decisions take the place of the weights.
PERTURBATION = "perturbation"
#: The rules of `jdarts.baselines.weight_sharing`, by the baseline that proposes cells.
SHARING: Mapping[str, str] = {
    "random_sharing": "random",
    "evolution_sharing": "evolution",
    "reinforce_sharing": "reinforce",
}


@dataclasses.dataclass(frozen=True)
class Selection:
    """A rule.

    Attributes:
      select: makes the rule for a value.
      value: its default; None for a rule without one.
      largest: the largest value; the smallest is 0.
      of_weights: whether the rule reads the weights of the mixture, not the strengths.
      decided: whether what a search has decided on its supernet takes the place of the weights.
    """

    select: Callable[[float], Select]
    value: float | None = None
    largest: float = 0.0
    of_weights: bool = False
    decided: bool = False


def selection_by_name(text: object) -> tuple[Select, bool]:
    """The rule with a name, perhaps with a value, as in `skip_limit:3`; and whether it reads the mixture's weights.

    Raises:
      InputError: there is no such rule, or its value is out of range.
    """
    name, colon, value = text.partition(":") if isinstance(text, str) else ("", "", "")
    if name not in SELECTIONS:
        raise InputError(f"the selection is {shown(text)}; give {' or '.join(SELECTIONS)}")
    rule = SELECTIONS[name]
    if not colon:
        return rule.select(0.0 if rule.value is None else rule.value), rule.of_weights
    if rule.value is None:
        raise InputError(f"the selection is {shown(text)}, but {name} has no value; give {name}")
    try:
        number = type(rule.value)(value)
    except ValueError:
        number = -1
    if not 0 <= number <= rule.largest:
        kind = "a whole number" if isinstance(rule.value, int) else "a number"
        raise InputError(
            f"the selection is {shown(text)}; give {kind} from 0 to {rule.largest:g} after the colon, as in "
            f"{name}:{rule.value}"
        )
    return rule.select(number), rule.of_weights


def argmax(tables: Tables, space: SearchSpace, edges_per_node: int) -> Genotype:
    """DARTS: the strongest edges of each node, each with its strongest operation other than `none`."""
    cells: dict[CellKind, Cell] = {kind: strongest(tables[kind], space, kind, edges_per_node) for kind in space.kinds}
    return genotype_of_cells(cells, space.concat, edges_per_node)


def strongest(table: np.ndarray, space: Space, kind: str, edges_per_node: int) -> Cell:
    """The strongest edges of each node, in descending order, the earlier one among equals; also of recurrent cells.

    Each edge carries its strongest operation other than `none`, and is as strong as it.

    Raises:
      InputError: a strength is not a number, or infinite.
    """
    return tuple(
        (name, source)
        for node in _incoming(space, kind, table)
        for _, name, source in _first(map(_best, node), edges_per_node)
    )


def skip_limited(limit: int) -> Select:
    """P-DARTS: at most `limit` skip connections in the normal cell, and a node's edges ordered by their sources.

    As long as there are more, the weakest skip connection that is in the cell is taken out of its edge's operations.
    """

    def select(tables: Tables, space: SearchSpace, edges_per_node: int) -> Genotype:
        version = None
        for version in skip_limited_versions(tables, space, edges_per_node):
            if skip_connections(version.normal) <= limit:
                return version
        fewest = 0 if version is None else skip_connections(version.normal)
        raise NoCellsError(
            f"skip_limit:{limit} is not possible: {fewest} skip connections stay in the normal cell, as their edges have no "
            "other operation; give a larger limit"
        )

    return select


def skip_limited_versions(tables: Tables, space: SearchSpace, edges_per_node: int = 2) -> Iterator[Genotype]:
    """P-DARTS: the genotype without a limit, then with the weakest skip connections taken out one after the other.

    The last one has none, or only those whose edge has no other operation.
    """
    strengths: dict[CellKind, np.ndarray] = {}
    for kind in space.kinds:
        _check(tables[kind], space, kind)
        strengths[kind] = np.array(tables[kind], np.float64)
    while True:
        chosen = {kind: _by_source(table, space, kind, edges_per_node) for kind, table in strengths.items()}
        cells: dict[CellKind, Cell] = {
            kind: tuple((name, source) for _, name, source, _ in chosen[kind]) for kind in space.kinds
        }
        yield genotype_of_cells(cells, space.concat, edges_per_node)
        skips = [
            (strength, place)
            for strength, name, _, place in chosen.get("normal", ())
            if _is_skip(name) and np.isfinite(strength)
        ]
        if not skips:
            return
        _, (edge, column) = min(skips)
        strengths["normal"][edge, column] = -np.inf


def threshold(least: float) -> Select:
    """FairDARTS: of each node's strongest edges those whose strongest operation has a weight of at least `least`."""

    def select(weights: Tables, space: SearchSpace, edges_per_node: int) -> Genotype:
        return _unequal(
            lambda node: [edge for edge in _first(map(_best, node), edges_per_node) if edge[0] >= least],
            weights,
            space,
            f"no weight reaches {least:g}",
        )

    return select


def threshold_edge(least: float) -> Select:
    """FairDARTS: of every edge the two strongest operations with a weight of at least `least`, the stronger one last."""

    def select(weights: Tables, space: SearchSpace, edges_per_node: int) -> Genotype:
        del edges_per_node

        def chosen(node: "_Node") -> "list[_Candidate]":
            edges = [sorted(edge, key=lambda candidate: candidate[0])[-2:] for edge in map(_without_none, node)]
            return [candidate for edge in edges for candidate in edge if candidate[0] >= least]

        return _unequal(chosen, weights, space, f"no weight reaches {least:g}")

    return select


def pairs(tables: Tables, space: SearchSpace, edges_per_node: int) -> Genotype:
    """GDAS: the strongest pairs of an operation and an edge of each node; several may lie on one edge."""
    return _unequal(
        lambda node: _first((candidate for edge in node for candidate in _without_none(edge)), edges_per_node),
        tables,
        space,
        "",
    )


def all_edges(tables: Tables, space: SearchSpace, edges_per_node: int) -> Genotype:
    """SNAS: every edge with its strongest operation; those where that is `none` are left out."""
    del edges_per_node

    def chosen(node: "_Node") -> "list[_Candidate]":
        best = [max(edge, key=lambda candidate: candidate[0]) for edge in node]
        return [candidate for candidate in best if candidate[1] != NONE]

    return _unequal(chosen, tables, space, "none is the strongest operation of every edge")


SELECTIONS: Mapping[str, Selection] = {
    ARGMAX: Selection(lambda value: argmax),
    "skip_limit": Selection(lambda value: skip_limited(int(value)), value=2, largest=1000),
    "threshold": Selection(threshold, value=0.85, largest=1.0, of_weights=True),
    "threshold_edge": Selection(threshold_edge, value=0.85, largest=1.0, of_weights=True),
    "pairs": Selection(lambda value: pairs),
    "all_edges": Selection(lambda value: all_edges),
    **{name: Selection(lambda value: argmax, of_weights=True, decided=True) for name in (PERTURBATION, *SHARING)},
}


def reads_decisions(name: str) -> bool:
    """Whether a rule takes what a search has decided on its supernet."""
    return name in SELECTIONS and SELECTIONS[name].decided


def skip_connections(cell: Cell) -> int:
    """Number of skip connections in a cell."""
    return sum(_is_skip(name) for name, _ in cell)


def _is_skip(name: str) -> bool:
    return OPERATIONS[name].family == "skip"


#: Strength, operation and source.
_Candidate = tuple[float, str, int]
#: The candidates on each edge of a node.
_Node = Sequence[Sequence[_Candidate]]


def _incoming(space: Space, kind: str, table: np.ndarray) -> list[_Node]:
    """The candidates of every edge of every node, in order."""
    _check(table, space, kind)
    operations = operations_of(space)[kind]
    nodes: dict[int, list[list[_Candidate]]] = {}
    for row, names, (source, target) in zip(table, operations, edges_of(space)):
        nodes.setdefault(target, []).append([(float(value), name, source) for value, name in zip(row, names)])
    return list(nodes.values())


def _check(table: np.ndarray, space: Space, kind: str) -> None:
    if not np.all(np.isfinite(table[candidate_mask(operations_of(space)[kind])])):
        raise InputError(f"the alphas of the {kind} cell are not all finite; use an earlier checkpoint of the search")


def _without_none(edge: Sequence[_Candidate]) -> list[_Candidate]:
    return [candidate for candidate in edge if candidate[1] != NONE]


def _best(edge: Sequence[_Candidate]) -> _Candidate:
    return max(_without_none(edge), key=lambda candidate: candidate[0])


def _first(candidates: "Iterator[_Candidate]", count: int) -> list[_Candidate]:
    """The strongest, in descending order; the earlier one among equals."""
    return sorted(candidates, key=lambda candidate: -candidate[0])[:count]


def _by_source(
    table: np.ndarray, space: SearchSpace, kind: CellKind, edges_per_node: int
) -> list[tuple[float, str, int, tuple[int, int]]]:
    """The strongest edges by node and source, the later one among equals: strength, operation, source, place in the table."""
    chosen = []
    for edges in space.incoming:
        incoming = []
        for edge in edges:
            columns = [column for column, name in enumerate(space.operations(kind)[edge]) if name != NONE]
            column = max(columns, key=lambda column: (table[edge, column], column))
            name, source = space.operations(kind)[edge][column], space.edges[edge][0]
            incoming.append((float(table[edge, column]), name, source, (edge, column)))
        strongest_edges = sorted(incoming, key=lambda edge: (edge[0], edge[2]))[-edges_per_node:]
        chosen += sorted(strongest_edges, key=lambda edge: edge[2])
    return chosen


def _unequal(
    choose: "Callable[[_Node], Sequence[_Candidate]]", tables: Tables, space: SearchSpace, why_none: str
) -> Genotype:
    nodes: dict[CellKind, list[list[Edge]]] = {
        kind: [[(name, source) for _, name, source in choose(node)] for node in _incoming(space, kind, tables[kind])]
        for kind in space.kinds
    }
    return genotype_of_nodes(nodes, space.concat, f"{why_none}; choose another selection")
