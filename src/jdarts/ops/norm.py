"""Batch normalisation folded into weighted sums along routes, with its derivative in one pass.

A node of a mixed cell is Σ p·BN(z) over edges and operations, and BN(z) = z·scale + shift with per-channel factors, so the sum
is one `combine` of the z. Its derivative needs one `products` of the node's cotangent with the z, which gives those of the
mixture weights and of the statistics, and one `combine`. A plain batch norm is the case of one route per row.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jdarts.ops.mixing import ONES, Routes, combine, moments, products

#: PyTorch's defaults, which the reference implementation uses throughout.
EPSILON = 1e-5
MOMENTUM = 0.1


class Moments(NamedTuple):
    """Mean and variance per row and channel, `[N, C]`."""

    mean: jax.Array
    variance: jax.Array


class Affine(NamedTuple):
    """What follows a normalisation: a scale and a bias per row and channel, `[N, C]`."""

    scale: jax.Array
    bias: jax.Array


class Plan(NamedTuple):
    """Which rows lead where: everything about a normalised sum that is not an array.

    Attributes:
      routes: routes from rows of the inputs to rows of the results.
      sizes: rows of each result.
      normalised: the number of input stacks that are batch-normalised; they come first, the others follow.
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
) -> tuple[tuple[jax.Array, ...], Moments]:
    """Adds up batch-normalised rows along routes: `out_q[j] = Σ weights[r] · BN(x_k[i])`.

    Args:
      weights: `[R]`, one per route.
      stacks: `[I_k, B, H, W, C]`; the first `plan.normalised` of them are normalised over B, H and W.
      plan: routes and sizes.
      running: statistics to use instead of the batch's (evaluation), `[N, C]`.
      affine: scale and bias of every normalised row, `[N, C]`; none where it is not given.

    Returns:
      The results `[J_q, B, H, W, C]`, and the statistics that were used, `[N, C]` for the `N` normalised rows in order.
    """
    stacks = tuple(stacks)
    if not plan.normalised:
        nothing = jnp.zeros((0, stacks[0].shape[-1]), stacks[0].dtype)
        running, affine = Moments(nothing, nothing), None
    if running is not None:
        factors = _factors(weights, affine, running, _without_axis(plan), _rows(stacks, plan))[0]
        return _combined(factors, stacks, plan), running
    return _batch_normalised_sum(weights, affine, stacks, plan)


def identity_plan(sizes: Sequence[int], axis_name: str | None = None) -> Plan:
    """The plan of a plain batch norm: every row of every stack leads to itself."""
    routes = tuple((k, i, k, i) for k, size in enumerate(sizes) for i in range(size))
    return Plan(routes, tuple(sizes), len(sizes), axis_name)


def running_moments(running: Moments, batch: Moments, count: int) -> Moments:
    """Running statistics after one more batch: 0.9 old + 0.1 new, the new variance unbiased.

    Args:
      running: statistics so far, `[N, C]`.
      batch: statistics of the batch, `[N, C]`.
      count: numbers per channel that the batch's statistics were taken over.
    """
    unbiased = batch.variance * (count / max(count - 1, 1))
    return Moments(
        (1 - MOMENTUM) * running.mean + MOMENTUM * batch.mean,
        (1 - MOMENTUM) * running.variance + MOMENTUM * unbiased,
    )


def _without_axis(plan: Plan) -> Plan:
    return plan._replace(axis_name=None)


def _rows(stacks: Sequence[jax.Array], plan: Plan) -> tuple[int, ...]:
    """Rows of the normalised stacks."""
    return tuple(stack.shape[0] for stack in stacks[: plan.normalised])


def _targets(plan: Plan) -> tuple[tuple[int, int], ...]:
    return tuple((q, j) for q, size in enumerate(plan.sizes) for j in range(size))


def _factors(
    weights: jax.Array, affine: Affine | None, local: Moments, plan: Plan, rows: tuple[int, ...]
) -> tuple[jax.Array, Moments]:
    """Small arithmetic: one factor per route and one constant per result row, `[R + T, C]`, and the statistics used."""
    used = _synchronised(local, plan.axis_name)
    scale = lax.rsqrt(used.variance + EPSILON)
    if affine is not None:
        scale = scale * affine.scale
    shift = -used.mean * scale
    if affine is not None:
        shift = shift + affine.bias
    table = jnp.concatenate([scale, shift], axis=-1)
    starts = np.cumsum((0, *rows))
    # Products with constant matrices of zeros and ones: gathers and scatters are loops on a CPU.
    picks = np.zeros((len(plan.routes), int(starts[-1])))
    leads = np.zeros((sum(plan.sizes), len(plan.routes)))
    plain = np.ones((len(plan.routes), 2 * local.mean.shape[-1]))
    plain[:, local.mean.shape[-1] :] = 0
    targets = {target: row for row, target in enumerate(_targets(plan))}
    for r, (k, i, q, j) in enumerate(plan.routes):
        leads[targets[q, j], r] = 1
        if k < plan.normalised:
            picks[r, starts[k] + i] = 1
            plain[r] = 0
    chosen = _matmul(picks, table) + jnp.asarray(plain, table.dtype)
    weighted = weights[:, None] * chosen
    scales, shifts = jnp.split(weighted, 2, axis=-1)
    return jnp.concatenate([scales, _matmul(leads, shifts)]), used


def _matmul(constant: np.ndarray, x: jax.Array) -> jax.Array:
    return jnp.matmul(jnp.asarray(constant, x.dtype), x, precision="highest")


def _synchronised(local: Moments, axis_name: str | None) -> Moments:
    if axis_name is None:
        return local
    mean = lax.pmean(local.mean, axis_name)
    return Moments(mean, lax.pmean(local.variance + jnp.square(local.mean - mean), axis_name))


def _combined(factors: jax.Array, stacks: tuple[jax.Array, ...], plan: Plan) -> tuple[jax.Array, ...]:
    constants = tuple((ONES, 0, q, j) for q, j in _targets(plan))
    return combine(factors, stacks, routes=(*plan.routes, *constants), sizes=plan.sizes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _batch_normalised_sum(
    weights: jax.Array, affine: Affine | None, stacks: tuple[jax.Array, ...], plan: Plan
) -> tuple[tuple[jax.Array, ...], Moments]:
    return _forward(weights, affine, stacks, plan)[0]


def _forward(weights: jax.Array, affine: Affine | None, stacks: tuple[jax.Array, ...], plan: Plan) -> tuple:
    local = Moments(*moments(stacks[: plan.normalised]))
    factors, used = _factors(weights, affine, local, plan, _rows(stacks, plan))
    return (_combined(factors, stacks, plan), used), (weights, affine, stacks, local)


def _backward(plan: Plan, kept: tuple, cotangents: tuple) -> tuple:
    weights, affine, stacks, local = kept
    of_outs, of_used = cotangents
    constants = tuple((ONES, 0, q, j) for q, j in _targets(plan))
    of_factors = products(stacks, of_outs, routes=(*plan.routes, *constants))
    rows = _rows(stacks, plan)
    (factors, _), pull_back = jax.vjp(lambda w, a, m: _factors(w, a, m, plan, rows), weights, affine, local)
    of_weights, of_affine, of_local = pull_back((of_factors, of_used))

    # ∂mean/∂z = 1/M and ∂variance/∂z = 2(z − mean)/M, beside each route's own factor times its target's cotangent.
    count = math.prod(stacks[0].shape[1:-1])
    slope = 2 * of_local.variance / count
    offset = of_local.mean / count - slope * local.mean
    outs = len(plan.sizes)
    through = tuple((q, j, k, i) for k, i, q, j in plan.routes)
    own = [(k, i) for k, size in enumerate(rows) for i in range(size)]
    routes = (*through, *((outs + k, i, k, i) for k, i in own), *((ONES, 0, k, i) for k, i in own))
    of_stacks = combine(
        jnp.concatenate([factors[: len(plan.routes)], slope, offset]),
        [*of_outs, *stacks[: plan.normalised]],
        routes=routes,
        sizes=[stack.shape[0] for stack in stacks],
    )
    return of_weights, of_affine, of_stacks


_batch_normalised_sum.defvjp(_forward, _backward)
