"""Random cells of a given size: drawn uniformly from all cells of a space whose cost is between two numbers."""

import bisect
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from jdarts.budget.cost import Cost
from jdarts.errors import InputError
from jdarts.genotype import Cell, Genotype, genotype_of_cells
from jdarts.operations import NONE
from jdarts.space import CELL_KINDS, CellKind, SearchSpace


def sample_of_size(
    cost: Cost, space: SearchSpace, seed: int, *, least: int, most: int, edges_per_node: int = 2
) -> Genotype:
    """Draws a pair of cells, each with the same probability, from those with `least ≤ cost ≤ most`.

    Nothing is drawn and thrown away: the cells of each cost are counted first. Without bounds the distribution is that of
    `jdarts.sample_genotype`.

    Args:
      cost: what the cells cost.
      space: the search space.
      seed: the same seed gives the same cells.
      least: the smallest cost.
      most: the largest cost.
      edges_per_node: edges kept for each node.

    Raises:
      InputError: no cells have such a cost.
    """
    counts: dict[CellKind, _CellCounts] = {
        kind: _CellCounts.of(cost, space, kind, edges_per_node) for kind in space.kinds
    }
    # A kind that the space does not have costs nothing, in one way.
    normal, reduce = (counts[kind].by_cost if kind in counts else Counter({0: 1}) for kind in CELL_KINDS)
    costs = sorted(reduce)
    # Number of reduction cells with the first so many of the costs.
    up_to = [0, *itertools.accumulate(reduce[each] for each in costs)]

    def places_for(of_normal: int) -> tuple[int, int]:
        rest = cost.base + of_normal
        return bisect.bisect_left(costs, least - rest), bisect.bisect_right(costs, most - rest)

    pairs = {
        each: count * max(up_to[last] - up_to[first], 0)
        for each, count in sorted(normal.items())
        for first, last in [places_for(each)]
    }
    if not any(pairs.values()):
        raise InputError(f"no cells of the space cost between {least:,} and {most:,}; give a wider range")
    draw = random.Random(seed)
    of_normal = _drawn(draw, pairs)
    first, last = places_for(of_normal)
    of_reduce = _drawn(draw, {each: reduce[each] for each in costs[first:last]})
    drawn: dict[CellKind, int] = {"normal": of_normal, "reduce": of_reduce}
    return genotype_of_cells(
        {kind: of_kind.draw(draw, drawn[kind]) for kind, of_kind in counts.items()}, space.concat, edges_per_node
    )


def _drawn(draw: random.Random, counts: Mapping[int, int]) -> int:
    """A key, drawn with the probability of its count."""
    place = draw.randrange(sum(counts.values()))
    for key, count in counts.items():
        if place < count:
            return key
        place -= count
    raise AssertionError


class _CellCounts(NamedTuple):
    """How many cells of one kind have each cost.

    Attributes:
      space: the search space.
      kind: of the cell.
      added: for each edge, the columns of its operations by what they add to the cost.
      nodes: for each node, the number of edges that it keeps, and after each of its edges the number of ways to choose the
        remaining ones, by how many are kept before and by cost.
      later: for each node the number of ways to choose it and those after it, by cost; at the end `{0: 1}`.
    """

    space: SearchSpace
    kind: CellKind
    added: tuple[Mapping[int, list[int]], ...]
    nodes: tuple[tuple[int, list[list[Counter[int]]]], ...]
    later: tuple[Counter[int], ...]

    @property
    def by_cost(self) -> Counter[int]:
        """The number of cells of each cost."""
        return self.later[0]

    @classmethod
    def of(cls, cost: Cost, space: SearchSpace, kind: CellKind, edges_per_node: int) -> "_CellCounts":
        table = cost.tables[kind]
        added = tuple(_columns(table[edge], names) for edge, names in enumerate(space.operations(kind)))
        nodes = tuple(
            (kept, _ways([added[edge] for edge in edges], kept))
            for edges in space.incoming
            for kept in [min(edges_per_node, len(edges))]
        )
        later = [Counter({0: 1})]
        for _, ways in reversed(nodes):
            later.append(_sums(ways[0][0], later[-1]))
        return cls(space, kind, added, nodes, tuple(reversed(later)))

    def draw(self, draw: random.Random, cost: int) -> Cell:
        """Draws a cell of a cost."""
        cell: list[tuple[str, int]] = []
        for edges, (kept, ways), rest in zip(self.space.incoming, self.nodes, self.later[1:], strict=True):
            of_node = _drawn(
                draw,
                {each: count * rest[cost - each] for each, count in sorted(ways[0][0].items()) if cost - each in rest},
            )
            cell += self._node(draw, edges, kept, ways, of_node)
            cost -= of_node
        return tuple(cell)

    def _node(
        self, draw: random.Random, edges: tuple[int, ...], kept: int, ways: list[list[Counter[int]]], cost: int
    ) -> Iterator[tuple[str, int]]:
        names, done = self.space.operations(self.kind), 0
        for number, edge in enumerate(edges, 1):
            after = ways[number]
            # -1 stands for an edge that is left out.
            odds = {-1: after[done][cost]}
            if done < kept:
                odds |= {
                    each: len(columns) * after[done + 1][cost - each] for each, columns in self.added[edge].items()
                }
            chosen = _drawn(draw, odds)
            if chosen >= 0:
                columns = self.added[edge][chosen]
                yield names[edge][columns[draw.randrange(len(columns))]], self.space.edges[edge][0]
                cost, done = cost - chosen, done + 1


def _columns(row: np.ndarray, names: tuple[str, ...]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for column, name in enumerate(names):
        if name != NONE:
            found.setdefault(int(row[column]), []).append(column)
    return found


def _ways(edges: list[Mapping[int, list[int]]], kept: int) -> list[list[Counter[int]]]:
    """For each place between edges and each number kept before it, the ways to choose the rest, by cost."""
    ways = [[Counter({0: 1}) if done == kept else Counter() for done in range(kept + 1)]]
    for added in reversed(edges):
        after = ways[-1]
        counts = Counter({each: len(columns) for each, columns in added.items()})
        ways.append(
            [after[done] + (_sums(counts, after[done + 1]) if done < kept else Counter()) for done in range(kept + 1)]
        )
    return ways[::-1]


def _sums(first: Mapping[int, int], second: Mapping[int, int]) -> Counter[int]:
    """The number of pairs by the sum of their costs."""
    found: Counter[int] = Counter()
    for (one, count), (other, times) in itertools.product(first.items(), second.items()):
        found[one + other] += count * times
    return found
