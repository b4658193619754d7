"""Sums and products along routes, and moments, in operations of JAX, in as few kernels as XLA makes of them.

Regular routes are computed a grid at a time (`route_grids`). No feature maps are joined in memory: a concatenation is the last
operation of a fusion, or the operand of a sum over pixels in the same fusion. No device has confirmed that; the compiler for an
H100 shows it.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jdarts.ops.precision import wide_type
from jdarts.ops.route_grids import ONES, Grid, Routes, grids, rows
from jdarts.ops.route_terms import Term, at_places, joined, stack_of, sum_of, terms_of


def combine(*operands: jax.Array, tables: int, routes: Routes, sizes: tuple[int, ...]) -> list[jax.Array]:
    """Adds up rows of stacks along routes; see `mixing.combine`.

    Args:
      *operands: tables of weights, then stacks.
      tables: the number of tables.
      routes: the routes.
      sizes: number of rows of each result.
    """
    xs = operands[tables:]
    weights = joined(operands[:tables])
    middle = (1,) * (xs[0].ndim - 2)
    weights = weights.reshape(weights.shape[0], *middle, weights.shape[1])
    terms: list[list[Term]] = [[] for _ in sizes]
    for grid in grids(routes, tuple(x.shape[0] for x in xs), sizes):
        k, q = grid.stacks
        terms[q] += terms_of(grid, sum_of(_parts(grid, weights, None if k == ONES else xs[k])))
    return [stack_of(of_stack, (size, *xs[0].shape[1:]), xs[0].dtype) for of_stack, size in zip(terms, sizes)]


def combine_in_few_operations(
    *operands: jax.Array, tables: int, routes: Routes, sizes: tuple[int, ...]
) -> list[jax.Array]:
    """`combine` in few operations, for CPUs: XLA compiles every call there for itself, operation by operation.

    A product of matrices adds up the weights of the routes from ones.
    """
    xs = operands[tables:]
    weights = joined(operands[:tables])
    middle = (1,) * (xs[0].ndim - 2)
    terms: list[list[Term]] = [[] for _ in sizes]
    for grid in grids(routes, tuple(x.shape[0] for x in xs), sizes):
        k, q = grid.stacks
        if k != ONES:
            terms[q] += terms_of(grid, sum_of([_product(grid.of_run(run), weights, xs[k]) for run in grid.runs()]))
    for q, size in enumerate(sizes):
        incidence = np.zeros((size, len(routes)))
        for r, (k, _, result, j) in enumerate(routes):
            if k == ONES and result == q:
                incidence[j, r] = 1
        if incidence.any():
            constants = jnp.matmul(jnp.asarray(incidence, weights.dtype), weights, precision="highest")
            terms[q].append(Term(0, constants.reshape(size, *middle, weights.shape[1])))
    return [stack_of(of_stack, (size, *xs[0].shape[1:]), xs[0].dtype) for of_stack, size in zip(terms, sizes)]


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
        factor = at_places(factors, grid.summed, run)
        return factor if maps is None else factor * at_places(maps, grid.summed, run).astype(factor.dtype)

    return [part(run) for run in grid.runs()]


def products(*operands: jax.Array, num_x: int, routes: Routes) -> jax.Array:
    """Sums the products of rows of stacks along routes, all in one kernel; see `mixing.products`.

    Args:
      *operands: stacks x, then stacks y.
      num_x: the number of stacks x.
      routes: the routes.
    """
    wide = wide_type(operands[-1].dtype)
    pixels, channels = math.prod(operands[-1].shape[1:-1]), operands[-1].shape[-1]
    stacks = [a.reshape(a.shape[0], pixels, channels).astype(wide) for a in operands]
    xs, ys = stacks[:num_x], stacks[num_x:]
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
    sums = jnp.sum(joined(parts), axis=1)
    return sums if numbers == list(range(len(routes))) else sums[np.argsort(numbers)]


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
        sums.append(_sums_over_pixels(joined(maps)))
    if not sums:
        return jnp.zeros((0, channels), wide)
    numbers = [*of_sums, *of_maps]
    return joined(sums) if numbers == list(range(len(routes))) else joined(sums)[np.argsort(numbers)]


def _sums_over_pixels(maps: jax.Array) -> jax.Array:
    """`[rows, C]` from what is computed of maps `[rows, …, W, C]`.

    First over all but the columns: a reduction with that many results is vectorised, one with the channels alone is not, where
    XLA fuses it with what makes its operand.
    """
    rows, (columns, channels) = maps.shape[0], maps.shape[-2:]
    of_columns = jnp.sum(maps.reshape(rows, -1, columns * channels), axis=1)
    return jnp.sum(of_columns.reshape(rows, columns, channels), axis=1)


def moments(*xs: jax.Array) -> list[jax.Array]:
    """Mean and biased variance of every row of stacks; see `mixing.moments`.

    Both are sums of differences from a pixel of the row, which one reduction over the maps makes. Their squares have the size
    of the variance if that pixel is as close to the mean as most are, whatever the mean is.
    """
    wide = [x.astype(wide_type(x.dtype)) for x in xs]
    axes, count = tuple(range(1, wide[0].ndim - 1)), math.prod(wide[0].shape[1:-1])
    pixel = joined([lax.slice(x, (0,) * x.ndim, (x.shape[0], *(1 for _ in axes), x.shape[-1])) for x in wide])
    # Without the barrier XLA writes the pixels of each stack for each of the sums.
    pixels = lax.split(lax.optimization_barrier(pixel), [x.shape[0] for x in wide])
    differences = joined([x - pixel for x, pixel in zip(wide, pixels)])
    # Turned around: XLA would write equal differences to memory, to read them for both sums.
    squares = joined([jnp.square(pixel - x) for x, pixel in zip(wide, pixels)])
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
