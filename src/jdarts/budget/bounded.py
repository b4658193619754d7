"""The best cells within bounds: those with the largest sum of strengths whose costs keep every bound, by integer programming."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jdarts.budget.amounts import amount_text
from jdarts.budget.cost import Cost, Limit
from jdarts.errors import InputError
from jdarts.genotype import Cell, Genotype
from jdarts.methods.selection import Tables, argmax
from jdarts.operations import NONE
from jdarts.space import CELL_KINDS, CellKind, SearchSpace


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
        least = least_cost(limit.cost, space, edges_per_node)
        if least > limit.most:
            raise InputError(
                f"the bound is {amount_text(limit.cost.measure, limit.most)}, and the smallest network of such cells has "
                f"{amount_text(limit.cost.measure, least)}; give that or more, or a network of fewer channels or cells"
            )
    problem = _Problem.of(space, edges_per_node, limits)
    strengths = np.array([tables[each.kind][each.edge, each.column] for each in problem.choices])
    while True:
        found = problem.best(strengths)
        if found is None:
            bounds = " and ".join(amount_text(limit.cost.measure, limit.most) for limit in limits)
            raise InputError(f"no cells keep {bounds} together, though some keep each of them; raise one of the bounds")
        cells = {kind: _cell([each for each in found if each.kind == kind], tables[kind], space) for kind in CELL_KINDS}
        genotype = Genotype(cells["normal"], space.concat, cells["reduce"], space.concat, edges_per_node)
        if keeps(genotype, space, limits):
            return genotype
        # The solver's arithmetic is rounded; the bounds are checked in whole numbers.
        problem = problem.without(found)


def keeps(genotype: Genotype, space: SearchSpace, limits: Sequence[Limit]) -> bool:
    """Whether cells keep all bounds."""
    return all(limit.cost.of(genotype, space) <= limit.most for limit in limits)


def least_cost(cost: Cost, space: SearchSpace, edges_per_node: int) -> int:
    """The smallest cost of cells of a space."""
    return cost.base + sum(_extreme(cost.tables[kind], space, kind, edges_per_node, 1) for kind in CELL_KINDS)


def largest_cost(cost: Cost, space: SearchSpace, edges_per_node: int) -> int:
    """The largest cost of cells of a space."""
    return cost.base - sum(_extreme(cost.tables[kind], space, kind, edges_per_node, -1) for kind in CELL_KINDS)


def _extreme(table: np.ndarray, space: SearchSpace, kind: CellKind, edges_per_node: int, sign: int) -> int:
    """The smallest sum over a cell of a table times a sign."""

    def of_edge(edge: int) -> int:
        return min(sign * int(table[edge, column]) for column in _columns(space, kind, edge))

    return sum(sum(sorted(map(of_edge, edges))[:edges_per_node]) for edges in space.incoming)


class _Choice(NamedTuple):
    """An operation of an edge, as a variable that is 1 if the cell keeps it."""

    kind: CellKind
    edge: int
    column: int


class _Problem(NamedTuple):
    """The integer program: variables, and rows with their smallest and largest values."""

    choices: tuple[_Choice, ...]
    rows: tuple[np.ndarray, ...]
    smallest: tuple[float, ...]
    largest: tuple[float, ...]

    @classmethod
    def of(cls, space: SearchSpace, edges_per_node: int, limits: Sequence[Limit]) -> "_Problem":
        choices = tuple(
            _Choice(kind, edge, column)
            for kind in CELL_KINDS
            for edge in range(space.num_edges)
            for column in _columns(space, kind, edge)
        )
        rows: list[tuple[np.ndarray, float, float]] = []
        for kind in CELL_KINDS:
            for edge in range(space.num_edges):
                rows.append((np.array([each[:2] == (kind, edge) for each in choices], float), 0, 1))
            for edges in space.incoming:
                row = np.array([each.kind == kind and each.edge in edges for each in choices], float)
                count = min(edges_per_node, len(edges))
                rows.append((row, count, count))
        for cost, most in limits:
            added = [int(cost.tables[each.kind][each.edge, each.column]) for each in choices]
            unit = math.gcd(*added) or 1
            # Costs are whole numbers of the unit: half a unit of room lets the solver round.
            rows.append((np.array(added, float) / unit, -np.inf, (most - cost.base) // unit + 0.5))
        return cls(choices, *zip(*rows))

    def best(self, strengths: np.ndarray) -> list[_Choice] | None:
        """The choices with the largest sum of strengths; None if there are none."""
        from scipy import optimize  # takes long to import

        # On this scale the solver's smallest gap, 1e-6, is a ten-billionth of the differences.
        gains = 1e4 * (strengths - strengths.min()) / max(np.ptp(strengths), 1e-30)
        found: Any = optimize.milp(
            -gains,
            integrality=np.ones(len(gains)),
            bounds=optimize.Bounds(0, 1),
            constraints=optimize.LinearConstraint(np.stack(self.rows), self.smallest, self.largest),  # pyright: ignore[reportArgumentType]
            options={"mip_rel_gap": 0},
        )
        if found.x is None:
            return None
        return [choice for choice, value in zip(self.choices, found.x) if value > 0.5]

    def without(self, found: Sequence[_Choice]) -> "_Problem":
        """The same problem without one of its solutions."""
        row = np.array([each in found for each in self.choices], float)
        return self._replace(
            rows=(*self.rows, row), smallest=(*self.smallest, 0), largest=(*self.largest, len(found) - 1)
        )


def _columns(space: SearchSpace, kind: CellKind, edge: int) -> list[int]:
    return [column for column, name in enumerate(space.operations(kind)[edge]) if name != NONE]


def _cell(chosen: Sequence[_Choice], table: np.ndarray, space: SearchSpace) -> Cell:
    """The edges of each node in descending order of strength, the earlier one among equals."""
    ordered = sorted(chosen, key=lambda each: (space.edges[each.edge][1], -table[each.edge, each.column], each.edge))
    operations: Mapping[CellKind, Any] = {kind: space.operations(kind) for kind in CELL_KINDS}
    return tuple((operations[each.kind][each.edge][each.column], space.edges[each.edge][0]) for each in ordered)
