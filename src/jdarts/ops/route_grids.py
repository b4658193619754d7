"""Routes as grids: many routes whose numbers and rows grow regularly are a few operations on whole stacks.

A grid is a nest of loops over routes between one input stack and one output stack. Each loop adds a constant to the number of the
route and to both rows, so that slices, reshapes and broadcasts of the stacks take the place of a slice for every route.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax import lax

Route = tuple[int, int, int, int]
Routes = tuple[Route, ...]
#: The input stack of ones.
ONES = -1


class Loop(NamedTuple):
    """A loop of a grid: how often it runs, and what each run adds to the number of the route and to the rows."""

    count: int
    route: int
    source: int
    target: int


class Grid(NamedTuple):
    """Routes between two stacks.

    Attributes:
      stacks: number of the input stack and of the output stack.
      route: number of the first route.
      source: its row of the input stack.
      target: its row of the output stack.
      loops: the loops, outermost first; none for a single route.
    """

    stacks: tuple[int, int]
    route: int
    source: int
    target: int
    loops: tuple[Loop, ...] = ()

    @property
    def counts(self) -> tuple[int, ...]:
        """How often each loop runs."""
        return tuple(loop.count for loop in self.loops)

    @property
    def size(self) -> int:
        """The number of routes."""
        return math.prod(self.counts)

    @property
    def summed(self) -> list[int]:
        """Its loops over routes that lead to the same row."""
        return [n for n, loop in enumerate(self.loops) if loop.target == 0]

    def runs(self) -> list[tuple[int, ...]]:
        """The runs of the loops that it sums over, the outermost loop slowest."""
        return list(itertools.product(*(range(self.loops[n].count) for n in self.summed)))

    def of_run(self, run: Sequence[int]) -> "Grid":
        """Its routes in one run of the loops that it sums over."""
        fixed = [(self.loops[n], place) for n, place in zip(self.summed, run)]
        return self._replace(
            route=self.route + sum(loop.route * place for loop, place in fixed),
            source=self.source + sum(loop.source * place for loop, place in fixed),
            loops=tuple(loop for n, loop in enumerate(self.loops) if n not in self.summed),
        )

    def innermost(self) -> list["Grid"]:
        """A grid for every run of the loops around the innermost one."""
        outer = self.loops[:-1]
        return [
            self._replace(
                route=self.route + sum(loop.route * place for loop, place in zip(outer, run)),
                source=self.source + sum(loop.source * place for loop, place in zip(outer, run)),
                target=self.target + sum(loop.target * place for loop, place in zip(outer, run)),
                loops=self.loops[-1:],
            )
            for run in itertools.product(*(range(loop.count) for loop in outer))
        ]

    def numbers(self) -> list[int]:
        """The numbers of its routes, the innermost loop first."""
        found = [self.route]
        for loop in self.loops:
            found = [number + run * loop.route for number in found for run in range(loop.count)]
        return found


@functools.lru_cache(maxsize=4096)
def grids(
    routes: Routes, rows_in: tuple[int, ...], rows_out: tuple[int, ...], *, by_number: bool = True
) -> tuple[Grid, ...]:
    """Parts of the routes that `rows` can read from both stacks, in the order of their first routes.

    Args:
      routes: the routes, from stack `ONES` for ones.
      rows_in: the number of rows of each input stack.
      rows_out: the number of rows of each output stack.
      by_number: whether `rows` reads a table with a row for each route too.
    """
    by_stacks: dict[tuple[int, int], list[Grid]] = {}
    for number, (k, i, q, j) in enumerate(routes):
        by_stacks.setdefault((k, q), []).append(Grid((k, q), number, i, j))
    found = []
    for (k, q), parts in by_stacks.items():
        nested = parts
        while len(merged := _nested(nested)) < len(nested):
            nested = merged
        sizes = (len(routes) if by_number else None, None if k == ONES else rows_in[k], rows_out[q])
        found += (part for grid in nested for part in _readable(grid, sizes))
    return tuple(sorted(found, key=lambda grid: grid.route))


def _nested(parts: list[Grid]) -> list[Grid]:
    """Grids in which runs of grids with the same loops are one more loop."""
    found: list[Grid] = []
    place = 0
    while place < len(parts):
        first, end, step = parts[place], place + 1, None
        while end < len(parts) and parts[end].loops == first.loops:
            taken = _step(parts[end - 1], parts[end])
            if min(taken) < 0 or step not in (None, taken):
                break
            step, end = taken, end + 1
        loops = first.loops if step is None else (Loop(end - place, *step), *first.loops)
        found.append(first._replace(loops=loops))
        place = end
    return found


def _step(one: Grid, other: Grid) -> tuple[int, int, int]:
    return other.route - one.route, other.source - one.source, other.target - one.target


def _readable(grid: Grid, sizes: tuple[int | None, ...]) -> list[Grid]:
    """The grid, or its parts without the outermost loop if `rows` cannot read it."""
    starts = (grid.route, grid.source, grid.target)
    steps = [[(loop.count, loop[1 + n]) for loop in grid.loops] for n in range(3)]
    if all(size is None or _is_readable(size, start, step) for size, start, step in zip(sizes, starts, steps)):
        return [grid]
    outer, *inner = grid.loops
    runs = (
        Grid(
            grid.stacks,
            grid.route + run * outer.route,
            grid.source + run * outer.source,
            grid.target + run * outer.target,
            tuple(inner),
        )
        for run in range(outer.count)
    )
    return [part for run in runs for part in _readable(run, sizes)]


def _is_readable(size: int, start: int, steps: Sequence[tuple[int, int]]) -> bool:
    for count, step in steps:
        if step == 0:
            continue
        if size % step or start // step + count > size // step:
            return False
        size, start = step, start % step
    return True


def rows(array: jax.Array, start: int, steps: Sequence[tuple[int, int]]) -> jax.Array:
    """The rows `start + Σ run · step` of an array for all runs of some loops.

    Args:
      array: `[rows, …]`.
      start: the first row.
      steps: how often each loop runs, and its step.

    Returns:
      `[count or 1, …]`: an axis for each loop, of length 1 for a step of 0, before the other axes.
    """
    axis = 0
    for count, step in steps:
        if step == 0:
            array = lax.expand_dims(array, (axis,))
        else:
            size = array.shape[axis]
            array = array.reshape(*array.shape[:axis], size // step, step, *array.shape[axis + 1 :])
            array = lax.slice_in_dim(array, start // step, start // step + count, axis=axis)
            start %= step
        axis += 1
    return lax.index_in_dim(array, start, axis, keepdims=False)
