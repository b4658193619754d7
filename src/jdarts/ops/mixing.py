"""Sums and products of stacked feature maps along routes, from which mixed cells and batch norms are computed.

A *stack* is a feature map with a leading axis of rows, `[I, B, H, W, C]`. A *route* `(k, i, q, j)` leads from row `i` of input
stack `k` to row `j` of output stack `q`; input stack −1 (`ONES`) is a feature map of ones. With one weight per route
and channel,

    combine:   out_q[j] = Σ_{routes to (q, j)} weights[r] · x_k[i]        products:   out[r] = Σ_{B,H,W} x_k[i] · y_q[j].

Both are bilinear and each other's transposes, so derivatives of every order and in both modes stay within the two. Every
map is read and written once, however many routes it is on. Weights and sums over pixels are of the maps' `wide_type`.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts import native
from jdarts.errors import InputError
from jdarts.ops import mixing_forms, mixing_tpu_forms
from jdarts.ops.precision import wide_type
from jdarts.ops.route_grids import ONES, Route, Routes
from jdarts.xla.batching import axis_size, define_batching, merge_axis
from jdarts.xla.jax_compat import (
    Primitive,
    Zero,
    instantiate_zeros,
    is_undefined_primal,
    primitive_jvps,
    primitive_transposes,
)
from jdarts.xla.tangents import zero_tangent

combine_p = Primitive("combine")
combine_p.multiple_results = True
products_p = Primitive("products")
moments_p = Primitive("moments")
moments_p.multiple_results = True


def combine(
    weights: jax.Array, xs: Sequence[jax.Array], *, routes: Routes, sizes: Sequence[int]
) -> tuple[jax.Array, ...]:
    """Adds up rows of stacks along routes, each with one weight per channel.

    Args:
      weights: `[R, C]`, one row per route.
      xs: stacks `[I_k, …, C]`, at least one, alike in all but the first axis.
      routes: `R` routes; those from `ONES` add their weights themselves.
      sizes: number of rows `J_q` of each result; rows without a route are 0.

    Returns:
      Stacks `[J_q, …, C]`.

    Raises:
      InputError: shapes, types or routes do not fit.
    """
    return _combine([weights], xs, routes, sizes)


def _combine(
    tables: Sequence[jax.Array], xs: Sequence[jax.Array], routes: Routes, sizes: Sequence[int]
) -> tuple[jax.Array, ...]:
    """`combine` with weights in several tables, whose rows belong to the routes in order."""
    return tuple(combine_p.bind(*tables, *xs, tables=len(tables), routes=tuple(routes), sizes=tuple(sizes)))


def products(xs: Sequence[jax.Array], ys: Sequence[jax.Array], *, routes: Routes) -> jax.Array:
    """Sums the products of rows of stacks along routes, per channel.

    Args:
      xs: stacks `[I_k, …, C]`; may be empty where all routes come from `ONES`.
      ys: stacks `[J_q, …, C]`, at least one.
      routes: `R` routes; those from `ONES` sum the row of y itself.

    Returns:
      `[R, C]`.

    Raises:
      InputError: shapes, types or routes do not fit.
    """
    return products_p.bind(*xs, *ys, num_x=len(xs), routes=tuple(routes))


def moments(xs: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance of every row of stacks, per channel.

    Args:
      xs: stacks `[I_k, …, C]`, at least one, alike in all but the first axis.

    Returns:
      Mean and variance, each `[Σ I_k, C]`, the stacks' rows in order.
    """
    mean, variance = moments_p.bind(*xs)
    return mean, variance


def _moments_jvp(xs: Any, tangents: Any) -> Any:
    mean, variance = moments_p.bind(*xs)
    return [mean, variance], tangents_of_moments(xs, [instantiate_zeros(tangent) for tangent in tangents], mean)


def tangents_of_moments(xs: Sequence[jax.Array], dxs: Sequence[jax.Array], mean: jax.Array) -> list[jax.Array]:
    """The tangents of the mean and the variance of stacks with tangents, given the mean `[Σ I_k, C]`."""
    rows = [(k, i) for k, x in enumerate(xs) for i in range(x.shape[0])]
    sums = products(
        xs, dxs, routes=(*((ONES, 0, k, i) for k, i in rows), *((k, i, k, i) for k, i in rows))
    ) / math.prod(xs[0].shape[1:-1])
    of_mean, of_square = sums[: len(rows)], sums[len(rows) :]
    return [of_mean, 2 * (of_square - mean * of_mean)]


# Shapes and types.


def _refuse(name: str, operands: Sequence[Any], routes: Routes, why: str) -> InputError:
    shapes = ", ".join(f"{a.dtype}{list(a.shape)}" for a in operands)
    return InputError(f"{name}: {why}; got {shapes} and {len(routes)} routes")


def _check_stacks(name: str, stacks: Sequence[Any], operands: Sequence[Any], routes: Routes) -> None:
    first = stacks[0] if stacks else None
    if first is None or any(len(a.shape) < 2 or a.shape[1:] != first.shape[1:] for a in stacks):
        raise _refuse(name, operands, routes, "stacks must be [rows, …, C] and alike in all but the first axis")
    if not jnp.issubdtype(first.dtype, jnp.floating) or any(a.dtype != first.dtype for a in stacks):
        raise _refuse(name, operands, routes, "all stacks must have one floating type")


def _check_ends(name: str, ends: Sequence[tuple[int, int]], sizes: Sequence[int]) -> None:
    for stack, row in ends:
        if not (0 <= stack < len(sizes) and 0 <= row < sizes[stack]):
            raise InputError(
                f"{name}: a route names row {row} of stack {stack}, but the stacks have {tuple(sizes)} rows"
            )


@combine_p.def_abstract_eval
def _combine_shape(*operands: Any, tables: int, routes: Routes, sizes: tuple[int, ...]) -> Any:
    weights, xs = operands[:tables], operands[tables:]
    _check_stacks("combine", xs, operands, routes)
    wide, channels = wide_type(xs[0].dtype), xs[0].shape[-1]
    fit = all(len(w.shape) == 2 and w.shape[1] == channels and w.dtype == wide for w in weights)
    if not fit or sum(w.shape[0] for w in weights) != len(routes):
        raise _refuse("combine", operands, routes, f"weights must be [routes, C] of {jnp.dtype(wide).name}")
    _check_ends("combine", [(k, i) for k, i, _, _ in routes if k != ONES], [x.shape[0] for x in xs])
    _check_ends("combine", [(q, j) for _, _, q, j in routes], sizes)
    return [xs[0].update(shape=(size, *xs[0].shape[1:])) for size in sizes]


@products_p.def_abstract_eval
def _products_shape(*operands: Any, num_x: int, routes: Routes) -> Any:
    xs, ys = operands[:num_x], operands[num_x:]
    _check_stacks("products", ys, operands, routes)
    _check_stacks("products", operands, operands, routes)
    _check_ends("products", [(k, i) for k, i, _, _ in routes if k != ONES], [x.shape[0] for x in xs])
    _check_ends("products", [(q, j) for _, _, q, j in routes], [y.shape[0] for y in ys])
    return ys[0].update(shape=(len(routes), ys[0].shape[-1]), dtype=wide_type(ys[0].dtype))


@moments_p.def_abstract_eval
def _moments_shape(*xs: Any) -> Any:
    _check_stacks("moments", xs, xs, ())
    shape = (sum(x.shape[0] for x in xs), xs[0].shape[-1])
    return [xs[0].update(shape=shape, dtype=wide_type(xs[0].dtype))] * 2


# Derivatives.


def _picked(array: jax.Array, rows: Sequence[int]) -> jax.Array:
    return array if list(rows) == list(range(array.shape[0])) else array[np.array(rows, int)]


def _redirected(route: Route, place: int, stack: int) -> Route:
    """The route with another stack at place 0 (where it comes from) or 2 (where it leads to)."""
    k, i, q, j = route
    return (stack, i, q, j) if place == 0 else (k, i, stack, j)


def _routes_of(tables: Sequence[Any], routes: Routes) -> list[Routes]:
    """The routes of each table's rows."""
    ends = np.cumsum([0, *((table.aval if is_undefined_primal(table) else table).shape[0] for table in tables)])
    return [routes[begin:end] for begin, end in itertools.pairwise(ends)]


def _combine_jvp(primals: Any, tangents: Any, *, tables: int, routes: Routes, sizes: tuple[int, ...]) -> Any:
    weights, xs = primals[:tables], primals[tables:]
    of_weights, of_xs = tangents[:tables], tangents[tables:]
    active = [k for k, tangent in enumerate(of_xs) if not isinstance(tangent, Zero)]
    # The tangents of stacks follow the stacks themselves, which are operands only where weights have tangents.
    stacks = [] if all(isinstance(tangent, Zero) for tangent in of_weights) else list(xs)
    # One call with a table for each operand that has a tangent: every map of the result's tangent is written once.
    factors: list[jax.Array] = []
    out_routes: list[Route] = []
    for table, tangent, its_routes in zip(weights, of_weights, _routes_of(weights, routes)):
        if not isinstance(tangent, Zero):
            factors.append(tangent)
            out_routes += its_routes
        kept = [r for r, route in enumerate(its_routes) if route[0] in active]
        if kept:
            factors.append(_picked(table, kept))
            out_routes += (_redirected(its_routes[r], 0, len(stacks) + active.index(its_routes[r][0])) for r in kept)
    outs = combine_p.bind(*primals, tables=tables, routes=routes, sizes=sizes)
    if not factors:
        return outs, [zero_tangent(out) for out in outs]
    return outs, list(_combine(factors, [*stacks, *(of_xs[k] for k in active)], tuple(out_routes), sizes))


def _combine_transpose(cts: Any, *operands: Any, tables: int, routes: Routes, sizes: tuple[int, ...]) -> Any:
    weights, xs = operands[:tables], operands[tables:]
    live = [q for q, ct in enumerate(cts) if not isinstance(ct, Zero)]
    stacks = [cts[q] for q in live]
    known = [k for k, x in enumerate(xs) if not is_undefined_primal(x)]
    needed = [k for k, x in enumerate(xs) if is_undefined_primal(x)]
    factors, back, forth, rows_of = [], [], [], []
    for table, its_routes in zip(weights, _routes_of(weights, routes)):
        if is_undefined_primal(table):
            kept = [r for r, (_, _, q, _) in enumerate(its_routes) if q in live]
            sources = [ONES if its_routes[r][0] == ONES else known.index(its_routes[r][0]) for r in kept]
            forth += [
                (k, its_routes[r][1], live.index(its_routes[r][2]), its_routes[r][3]) for k, r in zip(sources, kept)
            ]
            rows_of.append(kept)
        else:
            kept = [r for r, (k, _, q, _) in enumerate(its_routes) if k in needed and q in live]
            back += [(live.index(q), j, needed.index(k), i) for k, i, q, j in (its_routes[r] for r in kept)]
            factors.append(_picked(table, kept))
    of_xs: Sequence[Any] = ()
    if needed and back:
        of_xs = _combine(factors, stacks, tuple(back), [xs[k].aval.shape[0] for k in needed])
    elif needed:
        of_xs = [Zero(xs[k].aval) for k in needed]
    of_weights = []
    if forth:
        found, start = products([xs[k] for k in known], stacks, routes=tuple(forth)), 0
        undefined = (table for table in weights if is_undefined_primal(table))
        for table, kept in zip(undefined, rows_of):
            of_weights.append(_placed(found[start : start + len(kept)], kept, table.aval.shape[0]))
            start += len(kept)
    grads = iter(of_weights)
    return [
        *(next(grads, None) if is_undefined_primal(table) else None for table in weights),
        *(of_xs[needed.index(k)] if k in needed else None for k in range(len(xs))),
    ]


def _placed(rows: jax.Array, places: Sequence[int], count: int) -> jax.Array:
    if list(places) == list(range(count)):
        return rows
    return jnp.zeros((count, rows.shape[-1]), rows.dtype).at[np.array(places, int)].set(rows, unique_indices=True)


def _products_jvp(primals: Any, tangents: Any, *, num_x: int, routes: Routes) -> Any:
    xs, ys = primals[:num_x], primals[num_x:]
    of_xs, of_ys = tangents[:num_x], tangents[num_x:]
    parts = []
    for side, side_tangents in enumerate((of_xs, of_ys)):
        active = [n for n, tangent in enumerate(side_tangents) if not isinstance(tangent, Zero)]
        if not active:
            continue
        kept = [r for r, route in enumerate(routes) if route[2 * side] in active]
        kept_routes = tuple(_redirected(routes[r], 2 * side, active.index(routes[r][2 * side])) for r in kept)
        stacks = [side_tangents[n] for n in active]
        pair = (stacks, ys) if side == 0 else (xs, stacks)
        parts.append(_placed(products(*pair, routes=kept_routes), kept, len(routes)))
    return products(xs, ys, routes=routes), sum(parts[1:], parts[0])


def _products_transpose(ct: Any, *operands: Any, num_x: int, routes: Routes) -> Any:
    xs, ys = operands[:num_x], operands[num_x:]
    if any(is_undefined_primal(x) for x in xs):
        needed = [k for k, x in enumerate(xs) if is_undefined_primal(x)]
        kept = [r for r, route in enumerate(routes) if route[0] in needed]
        back = tuple((q, j, needed.index(k), i) for k, i, q, j in (routes[r] for r in kept))
        sizes = [xs[k].aval.shape[0] for k in needed]
        grads = combine(_picked(ct, kept), ys, routes=back, sizes=sizes)
        return [grads[needed.index(k)] if k in needed else None for k in range(num_x)] + [None] * len(ys)
    needed = [q for q, y in enumerate(ys) if is_undefined_primal(y)]
    kept = [r for r, route in enumerate(routes) if route[2] in needed]
    forth = tuple((*routes[r][:2], needed.index(routes[r][2]), routes[r][3]) for r in kept)
    avals = [ys[q].aval for q in needed]
    if xs:
        grads = combine(_picked(ct, kept), xs, routes=forth, sizes=[aval.shape[0] for aval in avals])
    else:
        grads = [_filled(aval, _picked(ct, kept), forth, q) for q, aval in enumerate(avals)]
    return [None] * num_x + [grads[needed.index(q)] if q in needed else None for q in range(len(ys))]


def _filled(aval: Any, rows: jax.Array, routes: Routes, stack: int) -> jax.Array:
    """A stack that is constant over its images: each row the sum of the given rows that lead to it."""
    incidence = np.zeros((aval.shape[0], len(routes)))
    for r, (_, _, q, j) in enumerate(routes):
        incidence[j, r] += q == stack
    constants = jnp.matmul(jnp.asarray(incidence, rows.dtype), rows, precision="highest")
    middle = (1,) * (len(aval.shape) - 2)
    return jnp.broadcast_to(constants.reshape(aval.shape[0], *middle, -1), aval.shape).astype(aval.dtype)


primitive_jvps[combine_p] = _combine_jvp
primitive_transposes[combine_p] = _combine_transpose
primitive_jvps[products_p] = _products_jvp
primitive_jvps[moments_p] = _moments_jvp
primitive_transposes[products_p] = _products_transpose


# Batching: the vmapped axis joins the rows, as the slower of the two.


def _batched_routes(routes: Routes, count: int, rows_in: Sequence[int], rows_out: Sequence[int]) -> Routes:
    return tuple(
        (k, i if k == ONES else element * rows_in[k] + i, q, element * rows_out[q] + j)
        for element in range(count)
        for k, i, q, j in routes
    )


def _combine_batched(operands: Any, axes: Any, *, tables: int, routes: Routes, sizes: tuple[int, ...]) -> Any:
    count = axis_size(operands, axes)
    merged = [merge_axis(a, axis, count, 0) for a, axis in zip(operands, axes)]
    weights, xs = merged[:tables], merged[tables:]
    rows_in = [x.shape[0] // count for x in xs]
    ends = np.cumsum([0, *(table.shape[0] // count for table in weights)])
    repeated = [_batched_routes(routes[begin:end], count, rows_in, sizes) for begin, end in itertools.pairwise(ends)]
    outs = _combine(weights, xs, tuple(route for part in repeated for route in part), [count * size for size in sizes])
    return [out.reshape(count, size, *out.shape[1:]) for out, size in zip(outs, sizes)], [0] * len(outs)


def _products_batched(operands: Any, axes: Any, *, num_x: int, routes: Routes) -> Any:
    count = axis_size(operands, axes)
    stacks = [merge_axis(a, axis, count, 0) for a, axis in zip(operands, axes)]
    rows = [a.shape[0] // count for a in stacks]
    repeated = _batched_routes(routes, count, rows[:num_x], rows[num_x:])
    out = products(stacks[:num_x], stacks[num_x:], routes=repeated)
    return out.reshape(count, len(routes), -1), 0


def _moments_batched(operands: Any, axes: Any) -> Any:
    count = axis_size(operands, axes)
    stacks = [merge_axis(a, axis, count, 0) for a, axis in zip(operands, axes)]
    rows = [stack.shape[0] // count for stack in stacks]
    outs = moments_p.bind(*stacks)
    results = []
    for out in outs:
        parts, start = [], 0
        for size in rows:
            part = out[start : start + count * size]
            parts.append(part.reshape(count, size, -1))
            start += count * size
        results.append(jnp.concatenate(parts, axis=1))
    return results, [0, 0]


define_batching(combine_p, _combine_batched)
define_batching(products_p, _products_batched)
define_batching(moments_p, _moments_batched)


# Evaluation and lowering.


native.define_lowering(
    combine_p,
    mixing_forms.combine,
    ("tables", "routes", "sizes"),
    native_name="combine",
    on={
        "cpu": mixing_forms.combine_in_few_operations,
        "tpu": mixing_tpu_forms.combine,
    },
)
native.define_lowering(
    products_p,
    mixing_forms.products,
    ("num_x", "routes"),
    native_name="products",
    on={
        "cpu": mixing_forms.products_in_few_operations,
        "tpu": mixing_tpu_forms.products,
    },
)
native.define_lowering(
    moments_p,
    mixing_forms.moments,
    (),
    native_name="moments",
    on={"cpu": mixing_forms.moments_in_two_passes, "tpu": mixing_tpu_forms.moments},
)
