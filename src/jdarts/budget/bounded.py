"""The best cells within bounds: those with the largest sum of strengths whose costs keep every bound, by integer programming."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jdarts.budget.amounts import amount_text
from jdarts.budget.cost import Cost, Limit
from jdarts.budget.integer_program import Program, at_most
from jdarts.errors import InputError
from jdarts.genotype import Cell, Genotype, genotype_of_cells
from jdarts.methods.pruning import OFF
from jdarts.methods.selection import Tables, argmax
from jdarts.operations import NONE
from jdarts.space import CellKind, SearchSpace


def bounded_cells(tables: Tables, space: SearchSpace, edges_per_node: int, limits: Sequence[Limit]) -> Genotype:
    """The cells with the largest sum of strengths whose costs keep all bounds, to the unit.

    Each node keeps as many edges as without bounds, each with one operation other than `none`. Without bounds this sum is
    what `argmax` maximises, and where its cells keep the bounds they are the result.

    Args:
      tables: `{kind: [E, O]}`, strengths, as for the rules of `jdarts.methods.selection`.
      space: the search space.
      edges_per_node: edges kept for each node.
      limits: the bounds.

    Raises:
      InputError: no cells keep the bounds, or a strength is not finite.
    """
    best = argmax(tables, space, edges_per_node)
    if keeps(best, space, limits):
        return best
    for limit in limits:
        check_bound(limit, space, edges_per_node)
    choices = _choices(space)
    program = _program(choices, space, edges_per_node, limits)
    gains = _gains(np.array([tables[each.kind][each.edge, each.column] for each in choices]))
    for found in program.solutions(gains):
        kept = [each for each, is_kept in zip(choices, found) if is_kept]
        cells: dict[CellKind, Cell] = {
            kind: _cell([each for each in kept if each.kind == kind], tables[kind], space) for kind in space.kinds
        }
        genotype = genotype_of_cells(cells, space.concat, edges_per_node)
        if keeps(genotype, space, limits):
            return genotype
    bounds = " and ".join(amount_text(limit.cost.measure, limit.most) for limit in limits)
    raise InputError(f"no cells keep {bounds} together, though some keep each of them; raise one of the bounds")


def check_bound(limit: Limit, space: SearchSpace, edges_per_node: int) -> None:
    """Checks that some cells keep a bound.

    Raises:
      InputError: none do.
    """
    least = least_cost(limit.cost, space, edges_per_node)
    if least > limit.most:
        raise InputError(
            f"the bound is {amount_text(limit.cost.measure, limit.most)}, and the smallest network of such cells has "
            f"{amount_text(limit.cost.measure, least)}; give that or more, or a network of fewer channels or cells"
        )


def keeps(genotype: Genotype, space: SearchSpace, limits: Sequence[Limit]) -> bool:
    """Whether cells keep all bounds."""
    return all(limit.cost.of(genotype, space) <= limit.most for limit in limits)


def least_cost(cost: Cost, space: SearchSpace, edges_per_node: int) -> int:
    """The smallest cost of cells of a space."""
    return cost.base + sum(_extreme(cost.tables[kind], space, kind, edges_per_node, 1) for kind in space.kinds)


def largest_cost(cost: Cost, space: SearchSpace, edges_per_node: int) -> int:
    """The largest cost of cells of a space."""
    return cost.base - sum(_extreme(cost.tables[kind], space, kind, edges_per_node, -1) for kind in space.kinds)


def _extreme(table: np.ndarray, space: SearchSpace, kind: CellKind, edges_per_node: int, sign: int) -> int:
    """The smallest sum over a cell of a table times a sign."""

    def of_edge(edge: int) -> int:
        return min(sign * int(table[edge, column]) for column in _columns(space, kind, edge))

    return sum(sum(sorted(map(of_edge, edges))[:edges_per_node]) for edges in space.incoming)


class _Choice(NamedTuple):
    """An operation of an edge, a variable of the program that is 1 if the cell keeps it."""

    kind: CellKind
    edge: int
    column: int


def _choices(space: SearchSpace) -> tuple[_Choice, ...]:
    return tuple(
        _Choice(kind, edge, column)
        for kind in space.kinds
        for edge in range(space.num_edges)
        for column in _columns(space, kind, edge)
    )


def _gains(strengths: np.ndarray) -> np.ndarray:
    """Strengths from 0 on; one operation that is off costs more than all others together can gain.

    Every cell has as many operations, so that a number taken from all strengths changes nothing.
    """
    off = strengths == OFF
    if off.all():
        return np.zeros(len(strengths))
    on = strengths[~off]
    room = (1 + np.ptp(on)) * len(strengths) if off.any() else 0.0
    return np.where(off, 0.0, strengths - on.min() + room)


def _program(choices: Sequence[_Choice], space: SearchSpace, edges_per_node: int, limits: Sequence[Limit]) -> Program:
    """Each edge keeps one operation at most, each node its number of edges, and the cells keep the bounds."""
    rows: list[tuple[np.ndarray, float, float]] = []
    for kind in space.kinds:
        for edge in range(space.num_edges):
            rows.append((np.array([each[:2] == (kind, edge) for each in choices], float), 0, 1))
        for edges in space.incoming:
            row = np.array([each.kind == kind and each.edge in edges for each in choices], float)
            count = min(edges_per_node, len(edges))
            rows.append((row, count, count))
    for cost, most in limits:
        added = np.array([cost.tables[each.kind][each.edge, each.column] for each in choices])
        rows.append(at_most(added, most - cost.base))
    return Program.of(np.ones(len(choices), bool), rows)


def _columns(space: SearchSpace, kind: CellKind, edge: int) -> list[int]:
    return [column for column, name in enumerate(space.operations(kind)[edge]) if name != NONE]


def _cell(chosen: Sequence[_Choice], table: np.ndarray, space: SearchSpace) -> Cell:
    """The edges of each node in descending order of strength, the earlier one among equals."""
    ordered = sorted(chosen, key=lambda each: (space.edges[each.edge][1], -table[each.edge, each.column], each.edge))
    operations: Mapping[CellKind, Any] = {kind: space.operations(kind) for kind in space.kinds}
    return tuple((operations[each.kind][each.edge][each.column], space.edges[each.edge][0]) for each in ordered)
