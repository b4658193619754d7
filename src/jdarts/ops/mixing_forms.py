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
from jdarts.xla.jax_compat import Layout, with_layout_constraint


class _Term(NamedTuple):
    """What a grid adds to the rows of a result from `start` on: `[rows, …, C]`, with axes of 1 where it is constant."""

    start: int
    maps: jax.Array

    @property
    def stop(self) -> int:
        return self.start + self.maps.shape[0]


def combine(
    *operands: jax.Array, tables: int, routes: Routes, sizes: tuple[int, ...], in_order: bool = False
) -> list[jax.Array]:
    """Adds up rows of stacks along routes; see `mixing.combine`.

    Args:
      *operands: tables of weights, then stacks.
      tables: the number of tables.
      routes: the routes.
      sizes: number of rows of each result.
      in_order: whether a product of matrices puts the weights into the order in which they are read. On TPUs, slices of rows
        that follow on one another are fewer kernels.
    """
    xs = operands[tables:]
    weights = operands[0] if tables == 1 else jnp.concatenate(operands[:tables])
    found = grids(routes, tuple(x.shape[0] for x in xs), sizes)
    middle = (1,) * (xs[0].ndim - 2)
    if in_order:
        order = [number for grid in found for run in grid.runs() for number in grid.of_run(run).numbers()]
        weights = row_major(weights if order == list(range(len(order))) else _picked(order, weights))
    else:
        weights = weights.reshape(weights.shape[0], *middle, weights.shape[1])
    terms: list[list[_Term]] = [[] for _ in sizes]
    start = 0
    for grid in found:
        k, q = grid.stacks
        x = None if k == ONES else xs[k]
        if in_order:
            parts = _parts_in_order(grid, lax.slice_in_dim(weights, start, start + grid.size), x, middle)
            start += grid.size
        else:
            parts = _parts(grid, weights, x)
        terms[q] += _terms(grid, _sum(parts))
    return [_stack(of_stack, (size, *xs[0].shape[1:]), xs[0].dtype) for of_stack, size in zip(terms, sizes)]


def combine_in_few_operations(
    *operands: jax.Array, tables: int, routes: Routes, sizes: tuple[int, ...]
) -> list[jax.Array]:
    """`combine` in few operations, for CPUs: XLA compiles every call there for itself, operation by operation.

    A product of matrices adds up the weights of the routes from ones.
    """
    xs = operands[tables:]
    weights = operands[0] if tables == 1 else jnp.concatenate(operands[:tables])
    middle = (1,) * (xs[0].ndim - 2)
    terms: list[list[_Term]] = [[] for _ in sizes]
    for grid in grids(routes, tuple(x.shape[0] for x in xs), sizes):
        k, q = grid.stacks
        if k != ONES:
            terms[q] += _terms(grid, _sum([_product(grid.of_run(run), weights, xs[k]) for run in grid.runs()]))
    for q, size in enumerate(sizes):
        incidence = np.zeros((size, len(routes)))
        for r, (k, _, result, j) in enumerate(routes):
            if k == ONES and result == q:
                incidence[j, r] = 1
        if incidence.any():
            constants = jnp.matmul(jnp.asarray(incidence, weights.dtype), weights, precision="highest")
            terms[q].append(_Term(0, constants.reshape(size, *middle, weights.shape[1])))
    return [_stack(of_stack, (size, *xs[0].shape[1:]), xs[0].dtype) for of_stack, size in zip(terms, sizes)]


def _product(grid: Grid, weights: jax.Array, x: jax.Array) -> jax.Array:
    """The products of weights `[R, C]` and maps of a grid whose routes lead to different rows."""
    factors = _few_rows(weights, grid.route, [(loop.count, loop.route) for loop in grid.loops])
    maps = _few_rows(x, grid.source, [(loop.count, loop.source) for loop in grid.loops]).astype(factors.dtype)
    shape = (*grid.counts, *x.shape[1:])
    if factors.shape[:-1] != grid.counts:
        factors = jnp.broadcast_to(factors, (*grid.counts, factors.shape[-1]))
    return lax.broadcast_in_dim(factors, shape, (*range(len(grid.counts)), len(shape) - 1)) * maps


def _few_rows(array: jax.Array, start: int, steps: Sequence[tuple[int, int]]) -> jax.Array:
    """`rows` as a single slice where that is possible."""
    if len(steps) == 1 and steps[0][1] in (0, 1):
        count = steps[0][0] if steps[0][1] else 1
        return lax.slice_in_dim(array, start, start + count)
    return rows(array, start, steps)


def _parts(grid: Grid, weights: jax.Array, x: jax.Array | None) -> list[jax.Array]:
    """The products of weights `[R, 1, …, C]` and maps for each run of the loops that a grid sums over."""
    factors = rows(weights, grid.route, [(loop.count, loop.route) for loop in grid.loops])
    maps = None if x is None else rows(x, grid.source, [(loop.count, loop.source) for loop in grid.loops])

    def part(run: Sequence[int]) -> jax.Array:
        factor = _at(factors, grid.summed, run)
        return factor if maps is None else factor * _at(maps, grid.summed, run).astype(factor.dtype)

    return [part(run) for run in grid.runs()]


def _parts_in_order(grid: Grid, weights: jax.Array, x: jax.Array | None, middle: tuple[int, ...]) -> list[jax.Array]:
    """`_parts` with the weights `[routes, C]` of the grid alone, in the order of its runs."""

    def part(number: int, one: Grid) -> jax.Array:
        own = lax.slice_in_dim(weights, number * one.size, (number + 1) * one.size)
        factor = own.reshape(*one.counts, *middle, own.shape[-1])
        if x is None:
            return factor
        return factor * rows(x, one.source, [(loop.count, loop.source) for loop in one.loops]).astype(factor.dtype)

    return [part(number, grid.of_run(run)) for number, run in enumerate(grid.runs())]


def _picked(numbers: Sequence[int], table: jax.Array) -> jax.Array:
    """Rows of a table, by a product with zeros and ones."""
    picks = np.eye(table.shape[0])[list(numbers)]
    return jnp.matmul(jnp.asarray(picks, table.dtype), table, precision="highest")


def row_major(table: jax.Array) -> jax.Array:
    """A small table `[rows, C]` that keeps its order in memory: XLA would turn it around and back for single operations."""
    return with_layout_constraint(table, Layout((0, 1)))


def _terms(grid: Grid, total: jax.Array) -> list[_Term]:
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


def products(*operands: jax.Array, num_x: int, routes: Routes, one_sum: bool = True, flat: bool = True) -> jax.Array:
    """Sums the products of rows of stacks along routes; see `mixing.products`.

    Args:
      *operands: stacks x, then stacks y.
      num_x: the number of stacks x.
      routes: the routes.
      one_sum: whether one sum adds up all routes, in one kernel; else there is a sum for each grid.
      flat: whether pixels are joined to one axis first. On TPUs, that is a copy.
    """
    wide = wide_type(operands[-1].dtype)
    images, channels = operands[-1].shape[1:-1], operands[-1].shape[-1]
    pixels = (math.prod(images),) if flat else images
    axes = tuple(range(1, 1 + len(pixels)))
    stacks = [a.reshape(a.shape[0], *pixels, channels).astype(wide) for a in operands]
    xs, ys = stacks[:num_x], stacks[num_x:]
    parts, numbers = [], []
    for grid in grids(routes, tuple(x.shape[0] for x in xs), tuple(y.shape[0] for y in ys)):
        k, q = grid.stacks
        maps = rows(ys[q], grid.target, [(loop.count, loop.target) for loop in grid.loops])
        if k != ONES:
            maps = maps * rows(xs[k], grid.source, [(loop.count, loop.source) for loop in grid.loops])
        whole = jnp.broadcast_to(maps, (*grid.counts, *pixels, channels))
        parts.append(whole.reshape(grid.size, *pixels, channels))
        numbers += grid.numbers()
    if not parts:
        return jnp.zeros((0, channels), wide)
    sums = jnp.sum(_joined(parts), axis=axes) if one_sum else _joined([jnp.sum(part, axis=axes) for part in parts])
    in_order = numbers == list(range(len(routes)))
    if not flat:
        return row_major(sums if in_order else _picked(np.argsort(numbers).tolist(), sums))
    return sums if in_order else sums[np.argsort(numbers)]


def products_in_few_operations(*operands: jax.Array, num_x: int, routes: Routes) -> jax.Array:
    """`products` for CPUs: one sum for all products of maps, and sums of the rows of y where they are."""
    wide = wide_type(operands[-1].dtype)
    channels, axes = operands[-1].shape[-1], tuple(range(1, operands[-1].ndim - 1))
    stacks = [a.astype(wide) for a in operands]
    xs, ys = stacks[:num_x], stacks[num_x:]
    maps, of_maps, sums, of_sums = [], [], [], []
    for grid in grids(routes, tuple(x.shape[0] for x in xs), tuple(y.shape[0] for y in ys)):
        k, q = grid.stacks
        of_grid = _few_rows(ys[q], grid.target, [(loop.count, loop.target) for loop in grid.loops])
        if k != ONES:
            of_grid = of_grid * _few_rows(xs[k], grid.source, [(loop.count, loop.source) for loop in grid.loops])
        whole = jnp.broadcast_to(of_grid, (*grid.counts, *ys[q].shape[1:])).reshape(grid.size, *ys[q].shape[1:])
        if k == ONES:
            sums.append(jnp.sum(whole, axis=axes))
            of_sums += grid.numbers()
        else:
            maps.append(whole)
            of_maps += grid.numbers()
    if maps:
        sums.append(jnp.sum(_joined(maps).reshape(len(of_maps), -1, channels), axis=1))
    if not sums:
        return jnp.zeros((0, channels), wide)
    numbers = [*of_sums, *of_maps]
    return _joined(sums) if numbers == list(range(len(routes))) else _joined(sums)[np.argsort(numbers)]


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
    axes, count = tuple(range(1, xs[0].ndim - 1)), math.prod(xs[0].shape[1:-1])
    means, variances = [], []
    for x in (x.astype(wide_type(x.dtype)) for x in xs):
        mean = jnp.sum(x, axis=axes) / count
        difference = x - lax.broadcast_in_dim(mean, x.shape, (0, x.ndim - 1))
        means.append(mean)
        variances.append(jnp.sum(difference * difference, axis=axes) / count)
    return [jnp.concatenate(means), jnp.concatenate(variances)]


def moments_in_joined_passes(*xs: jax.Array) -> list[jax.Array]:
    """`moments_in_two_passes` for TPUs, with the sums of all stacks as one table.

    XLA makes the first sums where it makes the stacks. Every operation on the sums of a single stack is a kernel more.
    """
    axes, count = tuple(range(1, xs[0].ndim - 1)), math.prod(xs[0].shape[1:-1])
    wide = [x.astype(wide_type(x.dtype)) for x in xs]
    mean = row_major(_joined([jnp.sum(x, axis=axes) for x in wide])) / count
    shape = (1,) * len(axes)
    means = [each.reshape(-1, *shape, each.shape[-1]) for each in lax.split(mean, [x.shape[0] for x in wide])]
    squares = _joined([jnp.sum(jnp.square(x - each), axis=axes) for x, each in zip(wide, means)])
    return [mean, row_major(squares) / count]
