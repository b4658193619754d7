"""Terms of sums along routes: what a grid of routes adds to the rows of a result."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jdarts.ops.route_grids import Grid


class Term(NamedTuple):
    """What a grid adds to the rows of a result from `start` on: `[rows, …, C]`, with axes of 1 where it is constant."""

    start: int
    maps: jax.Array

    @property
    def stop(self) -> int:
        """The row after its last one."""
        return self.start + self.maps.shape[0]


def terms_of(grid: Grid, total: jax.Array) -> list[Term]:
    """A grid's terms, one for each set of rows that follow on one another, of its sums `[counts of the other loops, …, C]`."""
    kept = [n for n in range(len(grid.loops)) if n not in grid.summed]
    # Loops whose rows follow on one another become one axis; each run of the others is a term.
    split, length = len(kept), 1
    while split and grid.loops[kept[split - 1]].target == length:
        split -= 1
        length *= grid.counts[kept[split]]
    outer = [grid.loops[n] for n in kept[:split]]
    rest = total.shape[len(kept) :]
    return [
        Term(
            grid.target + sum(place * loop.target for place, loop in zip(run, outer)),
            at_places(total, range(split), run).reshape(length, *rest),
        )
        for run in _runs(loop.count for loop in outer)
    ]


def _runs(counts: Any) -> Any:
    return itertools.product(*map(range, counts))


def sum_of(parts: Sequence[jax.Array]) -> jax.Array:
    """The sum of arrays."""
    return sum(parts[1:], parts[0])


def at_places(array: jax.Array, axes: Sequence[int], places: Sequence[int]) -> jax.Array:
    """The array at places of some axes, without these axes; an axis of length 1 has one value for all places."""
    for axis, place in sorted(zip(axes, places), reverse=True):
        array = lax.index_in_dim(array, place if array.shape[axis] > 1 else 0, axis, keepdims=False)
    return array


def stack_of(terms: Sequence[Term], shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """The sums of the terms of each row, as an array of a shape."""
    ends = sorted({0, shape[0], *(end for term in terms for end in (term.start, term.stop))})
    parts = []
    for start, stop in itertools.pairwise(ends):
        here = [
            lax.slice_in_dim(term.maps, start - term.start, stop - term.start)
            for term in terms
            if term.start <= start and stop <= term.stop
        ]
        whole = (stop - start, *shape[1:])
        parts.append(jnp.broadcast_to(sum_of(here), whole).astype(dtype) if here else jnp.zeros(whole, dtype))
    return joined(parts)


def joined(stacks: Sequence[jax.Array]) -> jax.Array:
    """The rows of all stacks."""
    return stacks[0] if len(stacks) == 1 else jnp.concatenate(stacks)
