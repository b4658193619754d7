"""Sums and products along routes, and moments, for TPUs, in as few operations as XLA makes of them there.

Tables of a number for each row and channel are small, and every operation on them is a kernel. One product with a constant matrix
puts the rows of a table into the order in which they are read, so that slices of rows that follow on one another are enough.
No TPU has confirmed that this is quick; the compiler shows the number of kernels.
"""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jdarts.ops.precision import wide_type
from jdarts.ops.route_grids import ONES, Grid, Routes, grids, rows
from jdarts.ops.route_terms import Term, joined, stack_of, sum_of, terms_of
from jdarts.xla.tpu_layouts import row_major


def combine(*operands: jax.Array, tables: int, routes: Routes, sizes: tuple[int, ...]) -> list[jax.Array]:
    """Adds up rows of stacks along routes; see `mixing.combine`.

    Args:
      *operands: tables of weights, then stacks.
      tables: the number of tables.
      routes: the routes.
      sizes: number of rows of each result.
    """
    xs = operands[tables:]
    groups = _groups(routes, _rows(xs), sizes)
    stacks, routes = _join(xs, groups), _redirected(routes, groups, _rows(xs))
    found = [grid for grid in grids(routes, _rows(stacks), sizes, by_number=False) if grid.stacks[0] != ONES]
    # For each row of weights that is read, the rows that it is the sum of: a row for each route, and one for all constants of a
    # row of a result.
    summed = [[number] for grid in found for run in grid.runs() for number in grid.of_run(run).numbers()]
    constants = {q: [[] for _ in range(sizes[q])] for k, _, q, _ in routes if k == ONES}
    for number, (k, _, q, j) in enumerate(routes):
        if k == ONES:
            constants[q][j].append(number)
    weights = _sums_of_rows([*summed, *itertools.chain(*constants.values())], joined(operands[:tables]))
    middle, start = (1,) * (xs[0].ndim - 2), 0
    terms: list[list[Term]] = [[] for _ in sizes]
    for grid in found:
        own = lax.slice_in_dim(weights, start, start + grid.size)
        terms[grid.stacks[1]] += terms_of(grid, sum_of(_parts(grid, own, stacks[grid.stacks[0]], middle)))
        start += grid.size
    for q in constants:
        own = lax.slice_in_dim(weights, start, start + sizes[q])
        terms[q].append(Term(0, own.reshape(sizes[q], *middle, own.shape[1])))
        start += sizes[q]
    return [stack_of(of_stack, (size, *xs[0].shape[1:]), xs[0].dtype) for of_stack, size in zip(terms, sizes)]


def _parts(grid: Grid, weights: jax.Array, x: jax.Array, middle: tuple[int, ...]) -> list[jax.Array]:
    """The products of weights `[routes of the grid, C]` and maps for each run of the loops that a grid sums over."""

    def part(number: int, one: Grid) -> jax.Array:
        own = lax.slice_in_dim(weights, number * one.size, (number + 1) * one.size)
        factor = own.reshape(*one.counts, *middle, own.shape[-1])
        return factor * rows(x, one.source, [(loop.count, loop.source) for loop in one.loops]).astype(factor.dtype)

    return [part(number, grid.of_run(run)) for number, run in enumerate(grid.runs())]


def products(*operands: jax.Array, num_x: int, routes: Routes) -> jax.Array:
    """Sums the products of rows of stacks along routes, a sum for each innermost loop of a grid; see `mixing.products`.

    Args:
      *operands: stacks x, then stacks y.
      num_x: the number of stacks x.
      routes: the routes.
    """
    wide = wide_type(operands[-1].dtype)
    xs = [x.astype(wide) for x in operands[:num_x]]
    ys = operands[num_x:]
    groups = _groups(_turned(tuple(route for route in routes if route[0] != ONES)), _rows(ys), _rows(xs))
    routes = _turned(_redirected(_turned(routes), groups, _rows(ys)))
    ys = [y.astype(wide) for y in _join(ys, groups)]
    images, channels = ys[0].shape[1:-1], ys[0].shape[-1]
    axes = tuple(range(1, 1 + len(images)))
    # Sums, with the routes whose numbers are each row's, in the order of their first routes.
    parts: list[tuple[list[list[int]], jax.Array]] = []
    for q, y in enumerate(ys):
        numbers = [
            [n for n, route in enumerate(routes) if route[0] == ONES and route[2:] == (q, j)] for j in range(len(y))
        ]
        if any(numbers):
            parts.append((numbers, jnp.sum(y, axis=axes)))
    for grid in grids(routes, _rows(xs), _rows(ys), by_number=False):
        k, q = grid.stacks
        if k != ONES:
            # Sums of several loops at once would be reshaped after they are made.
            for one in grid.innermost():
                maps = rows(ys[q], one.target, [(loop.count, loop.target) for loop in one.loops])
                maps = maps * rows(xs[k], one.source, [(loop.count, loop.source) for loop in one.loops])
                whole = jnp.broadcast_to(maps, (*one.counts, *images, channels)).reshape(one.size, *images, channels)
                parts.append(([[number] for number in one.numbers()], jnp.sum(whole, axis=axes)))
    if not parts:
        return jnp.zeros((0, channels), wide)
    parts.sort(key=lambda part: min(itertools.chain(*part[0])))
    row_of = {n: row for row, numbers in enumerate(itertools.chain(*(of for of, _ in parts))) for n in numbers}
    return _sums_of_rows([[row_of[n]] for n in range(len(routes))], joined([total for _, total in parts]))


def moments(*xs: jax.Array) -> list[jax.Array]:
    """Mean and biased variance of every row of stacks; see `mixing.moments`.

    Each stack is multiplied by its share of the mean first: XLA makes the sums where it makes the stack, and what follows on a
    sum is a kernel for itself.
    """
    axes, share = tuple(range(1, xs[0].ndim - 1)), 1 / math.prod(xs[0].shape[1:-1])
    wide = [x.astype(wide_type(x.dtype)) for x in xs]
    means = [jnp.sum(x * share, axis=axes, keepdims=True) for x in wide]
    variances = [jnp.sum(jnp.square(x - mean) * share, axis=axes) for x, mean in zip(wide, means)]
    flat = [mean.reshape(variance.shape) for mean, variance in zip(means, variances)]
    return [row_major(joined(flat)), row_major(joined(variances))]


def _sums_of_rows(places: Sequence[Sequence[int]], table: jax.Array) -> jax.Array:
    """Rows of a table `[rows, C]`, each the sum of the rows at some places, by a product with zeros and ones."""
    table = row_major(table)
    matrix = np.zeros((len(places), table.shape[0]))
    for row, numbers in zip(matrix, places):
        row[list(numbers)] = 1
    if np.array_equal(matrix, np.eye(len(matrix))):
        return table
    # Without the barrier XLA makes a product for each of the parts that the table is joined of.
    product = jnp.matmul(jnp.asarray(matrix, table.dtype), lax.optimization_barrier(table), precision="highest")
    return row_major(product)


Groups = list[tuple[int, ...]]


def _groups(routes: Routes, rows_in: tuple[int, ...], rows_out: tuple[int, ...]) -> Groups:
    """Which input stacks to join: those next to each other whose routes are fewer grids then, where that copies fewer rows than
    the routes reach.

    Args:
      routes: the routes; those from ones do not count.
      rows_in: the number of rows of each input stack.
      rows_out: the number of rows of each output stack.

    Returns:
      The numbers of the stacks that each joined stack consists of.
    """
    of_maps = tuple(route for route in routes if route[0] != ONES)

    def count(groups: Groups) -> int:
        found = _redirected(of_maps, groups, rows_in)
        rows_of_groups = tuple(sum(rows_in[n] for n in group) for group in groups)
        return len(grids(found, rows_of_groups, rows_out, by_number=False))

    groups, place = [(number,) for number in range(len(rows_in))], 0
    while place + 1 < len(groups):
        members = (*groups[place], *groups[place + 1])
        attempt = [*groups[:place], members, *groups[place + 2 :]]
        reached = {route[2:] for route in of_maps if route[0] in members}
        if sum(rows_in[n] for n in members) < len(reached) and count(attempt) < count(groups):
            groups = attempt
        else:
            place += 1
    return groups


def _redirected(routes: Routes, groups: Groups, rows_in: tuple[int, ...]) -> Routes:
    """The routes from joined stacks."""
    places = {
        number: (stack, sum(rows_in[n] for n in group[:place]))
        for stack, group in enumerate(groups)
        for place, number in enumerate(group)
    }
    places[ONES] = (ONES, 0)
    return tuple((places[k][0], places[k][1] + i, q, j) for k, i, q, j in routes)


def _join(stacks: Sequence[jax.Array], groups: Groups) -> list[jax.Array]:
    return [joined([stacks[number] for number in group]) for group in groups]


def _turned(routes: Routes) -> Routes:
    """The routes from their ends to their beginnings."""
    return tuple((q, j, k, i) for k, i, q, j in routes)


def _rows(stacks: Sequence[jax.Array]) -> tuple[int, ...]:
    return tuple(stack.shape[0] for stack in stacks)
