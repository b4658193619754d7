"""Batch normalisation folded into weighted sums along routes, with its derivative in one pass.

A node of a mixed cell is Σ p·BN(z) over edges and operations, and BN(z) = z·scale + shift with per-channel factors, so the sum
is one `combine` of the z. Backward it needs one `products` of the node's cotangent with the z, which gives the cotangents of
the mixture weights and of the statistics, and one `combine`. A plain batch norm is the case of one route per row.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jdarts.ops.mixing import ONES, Routes, combine, moments
from jdarts.ops.mixing_tangents import mixing_tangents
from jdarts.ops.precision import wide_type
from jdarts.ops.running_moments import Moments, batch_and_running_moments, running_moments
from jdarts.xla.platform import target_platform

#: PyTorch's default, which the reference implementation uses throughout.
EPSILON = 1e-5


class Affine(NamedTuple):
    """The scale and the bias after a normalisation, per row and channel, `[N, C]`."""

    scale: jax.Array
    bias: jax.Array


class Plan(NamedTuple):
    """The routes of a normalised sum: everything about it that is not an array.

    Attributes:
      routes: routes from rows of the inputs to rows of the results.
      sizes: rows of each result.
      normalised: the number of input stacks that are batch-normalised; these are the first ones.
      axis_name: a mapped axis over which batches are spread, for synchronised statistics; None for each device's own.
    """

    routes: Routes
    sizes: tuple[int, ...]
    normalised: int
    axis_name: str | None = None


def normalised_sum(
    weights: jax.Array,
    stacks: Sequence[jax.Array],
    plan: Plan,
    running: Moments | None = None,
    affine: Affine | None = None,
    following: Moments | None = None,
) -> tuple[tuple[jax.Array, ...], Moments]:
    """Adds up batch-normalised rows along routes: `out_q[j] = Σ weights[r] · BN(x_k[i])`.

    Args:
      weights: `[R]`, one per route, as the statistics of the stacks' `wide_type`.
      stacks: `[I_k, B, H, W, C]`; the first `plan.normalised` of them are normalised over B, H and W.
      plan: routes and sizes.
      running: statistics to use instead of the batch's (evaluation), `[N, C]`.
      affine: scale and bias of every normalised row, `[N, C]`; None for neither.
      following: running statistics that follow the batch's, `[N, C]`; None where there are none, and with `plan.axis_name`.

    Returns:
      The results `[J_q, B, H, W, C]`, and the statistics that were used, `[N, C]` for the `N` normalised rows in order; the
      `following` ones after this batch where there are such.
    """
    stacks = tuple(stacks)
    if not plan.normalised:
        nothing = jnp.zeros((0, stacks[0].shape[-1]), wide_type(stacks[0].dtype))
        running, affine = Moments(nothing, nothing), None
    if running is not None:
        factors = _factors(weights, affine, running, _without_axis(plan), _rows(stacks, plan))[0]
        return _combined(factors, stacks, plan), running
    assert following is None or plan.axis_name is None
    outs, used, moved = _batch_normalised_sum(weights, affine, stacks, following, plan)
    return outs, used if moved is None else moved


def normalised_sum_by_route(
    weights: jax.Array, stacks: Sequence[jax.Array], plan: Plan, running: Moments
) -> tuple[jax.Array, ...]:
    """`normalised_sum` with running statistics that each normalised route has for itself.

    Args:
      weights: `[R]`, one per route.
      stacks: `[I_k, B, H, W, C]`.
      plan: routes and sizes; normalised routes come first.
      running: statistics `[M, C]` of the `M` normalised routes.

    Returns:
      The results `[J_q, B, H, W, C]`.
    """
    scale = lax.rsqrt(running.variance + EPSILON)
    plain = jnp.ones((weights.shape[0] - scale.shape[0], scale.shape[1]), scale.dtype)
    table = jnp.concatenate([scale, plain, -running.mean * scale])
    repeated = jnp.concatenate([weights, weights[: scale.shape[0]]])
    return _combined(repeated[:, None] * table, tuple(stacks), plan)


def rows_of_routes(stacks: Sequence[jax.Array], plan: Plan) -> list[int]:
    """For each normalised route, its row among the normalised rows of all stacks."""
    starts = np.cumsum((0, *_rows(tuple(stacks), plan)))
    return [int(starts[k]) + i for k, i, _, _ in (plan.routes[r] for r in _normalised_routes(plan))]


def identity_plan(sizes: Sequence[int], axis_name: str | None = None) -> Plan:
    """The plan of a plain batch norm: a route from every row of every stack to the same row of the result."""
    routes = tuple((k, i, k, i) for k, size in enumerate(sizes) for i in range(size))
    return Plan(routes, tuple(sizes), len(sizes), axis_name)


def _without_axis(plan: Plan) -> Plan:
    return plan._replace(axis_name=None)


def _rows(stacks: Sequence[jax.Array], plan: Plan) -> tuple[int, ...]:
    """Rows of the normalised stacks."""
    return tuple(stack.shape[0] for stack in stacks[: plan.normalised])


def _factors(
    weights: jax.Array, affine: Affine | None, local: Moments, plan: Plan, rows: tuple[int, ...]
) -> tuple[jax.Array, Moments]:
    """Small arrays: a factor per route and a constant per normalised route, `[R + N, C]`, and the statistics used."""
    used = _synchronised(local, plan.axis_name)
    scale = lax.rsqrt(used.variance + EPSILON)
    if affine is not None:
        scale = scale * affine.scale
    shift = -used.mean * scale
    if affine is not None:
        shift = shift + affine.bias
    starts, normalised = np.cumsum((0, *rows)), _normalised_routes(plan)
    # For each route, the row of its scale; then for each normalised route that of its shift.
    places = [int(starts[k]) + i if k < plan.normalised else None for k, i, _, _ in plan.routes]
    places += [int(starts[-1]) + place for r in normalised if (place := places[r]) is not None]
    table = _picked_rows(jnp.concatenate([scale, shift]), places)
    repeated = (
        weights[: len(normalised)] if normalised == list(range(len(normalised))) else weights[np.array(normalised)]
    )
    return jnp.concatenate([weights, repeated])[:, None] * table, used


def _normalised_routes(plan: Plan) -> list[int]:
    return [r for r, (k, _, _, _) in enumerate(plan.routes) if k < plan.normalised]


def _picked_rows(table: jax.Array, places: Sequence[int | None]) -> jax.Array:
    """The rows of a table at some places, ones for None."""
    if target_platform() == "gpu":
        return jnp.concatenate([_repeated(table, *run) for run in _runs(places)])
    # Products with a constant matrix of zeros and ones: gathers and scatters are loops on a CPU.
    picks, ones = np.zeros((len(places), len(table))), np.zeros((len(places), 1))
    for n, place in enumerate(places):
        if place is None:
            ones[n] = 1
        else:
            picks[n, place] = 1
    if not np.array_equal(picks, np.eye(len(picks))):
        table = jnp.matmul(jnp.asarray(picks, table.dtype), table, precision="highest")
    return table + jnp.asarray(ones, table.dtype) if ones.any() else table


def _runs(places: Sequence[int | None]) -> list[tuple[int | None, int, int]]:
    """Neighbouring rows that are repeated equally often: the first one, their number and how often each follows itself."""
    runs: list[tuple[int | None, int, int]] = []
    for place, alike in itertools.groupby(places):
        times = len(list(alike))
        first, count, each = runs[-1] if runs else (None, 0, 0)
        if first is not None and place == first + count and times == each:
            runs[-1] = (first, count + 1, times)
        else:
            runs.append((place, 1, times))
    return runs


def _repeated(table: jax.Array, first: int | None, count: int, times: int) -> jax.Array:
    """A run of rows. XLA makes one kernel of runs and what is computed with them, and two of a product with a constant matrix."""
    shape = (count, times, table.shape[1])
    rows = jnp.ones((), table.dtype) if first is None else table[first : first + count, None]
    return jnp.broadcast_to(rows, shape).reshape(count * times, table.shape[1])


def _synchronised(local: Moments, axis_name: str | None) -> Moments:
    if axis_name is None:
        return local
    mean = lax.pmean(local.mean, axis_name)
    return Moments(mean, lax.pmean(local.variance + jnp.square(local.mean - mean), axis_name))


def _all_routes(plan: Plan) -> Routes:
    """The plan's routes, and one for the constant that a normalised row adds along each of its routes."""
    constants = ((ONES, 0, *plan.routes[r][2:]) for r in _normalised_routes(plan))
    return (*plan.routes, *constants)


def _combined(factors: jax.Array, stacks: tuple[jax.Array, ...], plan: Plan) -> tuple[jax.Array, ...]:
    return combine(factors, stacks, routes=_all_routes(plan), sizes=plan.sizes)


def _local_moments(
    stacks: tuple[jax.Array, ...], following: Moments | None, plan: Plan
) -> tuple[Moments, Moments | None]:
    """The statistics of this device's batch, and those that follow them."""
    normalised = stacks[: plan.normalised]
    return (
        (Moments(*moments(normalised)), None) if following is None else batch_and_running_moments(normalised, following)
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _batch_normalised_sum(
    weights: jax.Array, affine: Affine | None, stacks: tuple[jax.Array, ...], following: Moments | None, plan: Plan
) -> tuple[tuple[jax.Array, ...], Moments, Moments | None]:
    local, moved = _local_moments(stacks, following, plan)
    factors, used = _factors(weights, affine, local, plan, _rows(stacks, plan))
    return _combined(factors, stacks, plan), used, moved


@_batch_normalised_sum.defjvp
def _batch_normalised_sum_jvp(plan: Plan, primals: tuple, tangents: tuple) -> tuple:
    weights, affine, stacks, following = primals
    of_weights, of_affine, of_stacks, of_following = tangents
    rows, routes = _rows(stacks, plan), len(plan.routes)
    local, moved = _local_moments(stacks, following, plan)

    def small(weights: jax.Array, affine: Affine | None, local: Moments) -> tuple[jax.Array, Moments]:
        return _factors(weights, affine, local, plan, rows)

    (factors, used), push_forward = jax.linearize(small, weights, affine, local)
    direct, of_sums, of_products = mixing_tangents(
        factors[:routes], stacks[: plan.normalised], of_stacks, routes=plan.routes, sizes=plan.sizes
    )
    count = math.prod(stacks[0].shape[1:-1])
    of_mean = of_sums / count
    of_local = Moments(of_mean, 2 * (of_products / count - local.mean * of_mean))
    of_factors, of_used = push_forward(of_weights, of_affine, of_local)
    through_factors = _combined(of_factors, stacks, plan)
    of_moved = None if moved is None else running_moments(of_following, of_used, count)
    outs = _combined(factors, stacks, plan), used, moved
    return outs, (tuple(a + b for a, b in zip(direct, through_factors)), of_used, of_moved)
