"""Sums and products along routes, and moments, in operations of JAX, in as few kernels as XLA makes of them.

Regular routes are computed a grid at a time (`route_grids`). No feature maps are joined in memory: a concatenation is the last
operation of a fusion, or the operand of a sum over pixels in the same fusion. No device has confirmed that; the compiler for an
H100 and for TPUs shows it.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jdarts.ops.precision import wide_type
from jdarts.ops.route_grids import ONES, Grid, Routes, grids, rows


class _Term(NamedTuple):
    """What a grid adds to the rows of a result from `start` on: `[rows, …, C]`, with axes of 1 where it is constant."""

    start: int
    maps: jax.Array

    @property
    def stop(self) -> int:
        return self.start + self.maps.shape[0]


def combine(*operands: jax.Array, tables: int, routes: Routes, sizes: tuple[int, ...]) -> list[jax.Array]:
    """Adds up rows of stacks along routes; see `mixing.combine`."""
    xs = operands[tables:]
    weights = operands[0] if tables == 1 else jnp.concatenate(operands[:tables])
    weights = weights.reshape(weights.shape[0], *(1,) * (xs[0].ndim - 2), weights.shape[1])
    terms: list[list[_Term]] = [[] for _ in sizes]
    for grid in grids(routes, tuple(x.shape[0] for x in xs), sizes):
        k, q = grid.stacks
        terms[q] += _terms(grid, weights, None if k == ONES else xs[k])
    return [_stack(of_stack, (size, *xs[0].shape[1:]), xs[0].dtype) for of_stack, size in zip(terms, sizes)]


def _terms(grid: Grid, weights: jax.Array, x: jax.Array | None) -> list[_Term]:
    """The grid's terms, one for each set of rows that follow on one another."""
    summed = [n for n, loop in enumerate(grid.loops) if loop.target == 0]
    kept = [n for n, loop in enumerate(grid.loops) if loop.target != 0]
    factors = rows(weights, grid.route, [(loop.count, loop.route) for loop in grid.loops])
    maps = None if x is None else rows(x, grid.source, [(loop.count, loop.source) for loop in grid.loops])

    def part(run: Sequence[int]) -> jax.Array:
        factor = _at(factors, summed, run)
        return factor if maps is None else factor * _at(maps, summed, run).astype(factor.dtype)

    total = _sum([part(run) for run in _runs(grid.counts[n] for n in summed)])
    # Loops whose rows follow on one another become one axis; each run of the others is a term.
    split, length = len(kept), 1
    while split and grid.loops[kept[split - 1]].target == length:
        split -= 1
        length *= grid.counts[kept[split]]
    outer = [grid.loops[n] for n in kept[:split]]
    rest = total.shape[len(kept) :]
    return [
        _Term(
            grid.target + sum(place * loop.target for place, loop in zip(run, outer)),
            _at(total, range(split), run).reshape(length, *rest),
        )
        for run in _runs(loop.count for loop in outer)
    ]


def _runs(counts: Any) -> Any:
    return itertools.product(*map(range, counts))


def _sum(parts: Sequence[jax.Array]) -> jax.Array:
    return sum(parts[1:], parts[0])


def _at(array: jax.Array, axes: Sequence[int], places: Sequence[int]) -> jax.Array:
    """The array at places of some axes, without these axes; an axis of length 1 has one value for all places."""
    for axis, place in sorted(zip(axes, places), reverse=True):
        array = lax.index_in_dim(array, place if array.shape[axis] > 1 else 0, axis, keepdims=False)
    return array


def _stack(terms: Sequence[_Term], shape: tuple[int, ...], dtype: Any) -> jax.Array:
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
        parts.append(jnp.broadcast_to(_sum(here), whole).astype(dtype) if here else jnp.zeros(whole, dtype))
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def products(*operands: jax.Array, num_x: int, routes: Routes, one_sum: bool = True) -> jax.Array:
    """Sums the products of rows of stacks along routes; see `mixing.products`.

    One sum for all routes is one kernel; on CPUs, it takes longer to compile than a sum for each grid.
    """
    wide = wide_type(operands[-1].dtype)
    pixels, channels = math.prod(operands[-1].shape[1:-1]), operands[-1].shape[-1]
    flat = [a.reshape(a.shape[0], pixels, channels).astype(wide) for a in operands]
    xs, ys = flat[:num_x], flat[num_x:]
    parts, numbers = [], []
    for grid in grids(routes, tuple(x.shape[0] for x in xs), tuple(y.shape[0] for y in ys)):
        k, q = grid.stacks
        maps = rows(ys[q], grid.target, [(loop.count, loop.target) for loop in grid.loops])
        if k != ONES:
            maps = maps * rows(xs[k], grid.source, [(loop.count, loop.source) for loop in grid.loops])
        whole = jnp.broadcast_to(maps, (*grid.counts, pixels, channels))
        parts.append(whole.reshape(grid.size, pixels, channels))
        numbers += grid.numbers()
    if not parts:
        return jnp.zeros((0, channels), wide)
    sums = jnp.sum(_joined(parts), axis=1) if one_sum else _joined([jnp.sum(part, axis=1) for part in parts])
    return sums if numbers == list(range(len(routes))) else sums[np.argsort(numbers)]


def _joined(stacks: Sequence[jax.Array]) -> jax.Array:
    return stacks[0] if len(stacks) == 1 else jnp.concatenate(stacks)


def moments(*xs: jax.Array) -> list[jax.Array]:
    """Mean and biased variance of every row of stacks; see `mixing.moments`.

    Both are sums of differences from a pixel of the row, which one reduction over the maps makes. Their squares have the size
    of the variance if that pixel is as close to the mean as most are, whatever the mean is.
    """
    wide = [x.astype(wide_type(x.dtype)) for x in xs]
    axes, count = tuple(range(1, wide[0].ndim - 1)), math.prod(wide[0].shape[1:-1])
    pixel = _joined([lax.slice(x, (0,) * x.ndim, (x.shape[0], *(1 for _ in axes), x.shape[-1])) for x in wide])
    # Without the barrier XLA writes the pixels of each stack for each of the sums.
    pixels = lax.split(lax.optimization_barrier(pixel), [x.shape[0] for x in wide])
    differences = _joined([x - pixel for x, pixel in zip(wide, pixels)])
    # Turned around: XLA would write equal differences to memory, to read them for both sums.
    squares = _joined([jnp.square(pixel - x) for x, pixel in zip(wide, pixels)])
    zero = jnp.zeros((), squares.dtype)
    sums = lax.reduce((differences, squares), (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), axes)
    of_mean, of_square = (total / count for total in sums)
    return [pixel.reshape(of_mean.shape) + of_mean, jnp.maximum(of_square - jnp.square(of_mean), 0)]


def moments_in_two_passes(*xs: jax.Array) -> list[jax.Array]:
    """`moments` for CPUs, where XLA does not vectorise a reduction with two results."""
    axes = tuple(range(1, xs[0].ndim - 1))
    wide = [x.astype(wide_type(x.dtype)) for x in xs]
    return [jnp.concatenate([function(x, axis=axes) for x in wide]) for function in (jnp.mean, jnp.var)]
