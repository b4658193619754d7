"""Batch statistics and the running statistics that follow them.

    running moments    R(running mean, running variance, x) → mean, variance, both running ones after the batch

is `moments` and `running_moments` as one primitive. A native function for GPUs computes all four: otherwise two launches for each
batch norm would move its running statistics, a tenth of all launches of a weight step.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jdarts import native
from jdarts.errors import InputError
from jdarts.ops.depthwise.primitives import equally_varying, out_avals
from jdarts.ops.mixing import moments, moments_p, tangents_of_moments
from jdarts.xla.batching import define_batching
from jdarts.xla.jax_compat import JaxprEqn, Primitive, define_dead_code_rule, instantiate_zeros, primitive_jvps

#: The share of a batch in the running statistics after it: PyTorch's default, which the reference implementation uses throughout.
MOMENTUM = 0.1

running_moments_p = Primitive("running_moments")
running_moments_p.multiple_results = True


class Moments(NamedTuple):
    """Mean and variance per row and channel, `[N, C]`."""

    mean: jax.Array
    variance: jax.Array


def running_moments(running: Moments, batch: Moments, count: int, momentum: float = MOMENTUM) -> Moments:
    """Running statistics after one more batch: 0.9 old + 0.1 new, the new variance unbiased.

    Args:
      running: statistics so far, `[N, C]`.
      batch: statistics of the batch, `[N, C]`.
      count: numbers per channel that the batch's statistics were taken over.
      momentum: the share of the batch.
    """
    unbiased = batch.variance * (count / max(count - 1, 1))
    return Moments(
        (1 - momentum) * running.mean + momentum * batch.mean,
        (1 - momentum) * running.variance + momentum * unbiased,
    )


def batch_and_running_moments(xs: Sequence[jax.Array], running: Moments) -> tuple[Moments, Moments]:
    """Mean and biased variance of every row of stacks, and the running statistics after them.

    Args:
      xs: stacks `[I_k, …, C]`, at least one, alike in all but the first axis.
      running: statistics so far, `[Σ I_k, C]`, of the `wide_type` of the stacks.

    Raises:
      InputError: shapes or types do not fit.
    """
    mean, variance, *moved = running_moments_p.bind(*equally_varying(*running, *xs), momentum=MOMENTUM)
    return Moments(mean, variance), Moments(*moved)


def _one_by_one(mean: jax.Array, variance: jax.Array, *xs: jax.Array, momentum: float) -> list[jax.Array]:
    batch = _of_batch(*xs)
    return [*batch, *running_moments(Moments(mean, variance), batch, _count(xs), momentum)]


def _of_batch(*xs: jax.Array) -> Moments:
    return Moments(*moments(xs))


def _count(xs: Sequence[Any]) -> int:
    """Numbers per row and channel."""
    return math.prod(xs[0].shape[1:-1])


@running_moments_p.def_abstract_eval
def _shapes(mean: Any, variance: Any, *xs: Any, momentum: float) -> Any:
    expected = out_avals(_of_batch, xs, ())[0]
    if any((aval.shape, aval.dtype) != (expected.shape, expected.dtype) for aval in (mean, variance)):
        raise InputError(
            f"running_moments: running statistics must be {expected.dtype}{list(expected.shape)}; got "
            f"{mean.dtype}{list(mean.shape)} and {variance.dtype}{list(variance.shape)}"
        )
    return out_avals(_one_by_one, (mean, variance, *xs), (("momentum", momentum),))


def _jvp(primals: Any, tangents: Any, *, momentum: float) -> Any:
    results = running_moments_p.bind(*primals, momentum=momentum)
    xs, (of_mean, of_variance, *of_xs) = primals[2:], map(instantiate_zeros, tangents)
    of_batch = Moments(*tangents_of_moments(xs, of_xs, results[0]))
    of_running = running_moments(Moments(of_mean, of_variance), of_batch, _count(xs), momentum)
    return results, [*of_batch, *of_running]


def _batched(operands: Any, axes: Any, **params: float) -> Any:
    results = jax.vmap(functools.partial(_one_by_one, **params), in_axes=tuple(axes))(*operands)
    return results, [0] * len(results)


def _without_running(used: Sequence[bool], equation: JaxprEqn) -> tuple[list[bool], JaxprEqn | None]:
    """Batch statistics alone, where nobody reads the running ones."""
    operands = [any(used[2:])] * 2 + [any(used)] * (len(equation.invars) - 2)
    if any(used[2:]):
        return operands, equation
    if not any(used):
        return operands, None
    of_batch = {"invars": equation.invars[2:], "outvars": equation.outvars[:2]}
    return operands, equation.replace(primitive=moments_p, params={}, **of_batch)


primitive_jvps[running_moments_p] = _jvp
define_batching(running_moments_p, _batched)
define_dead_code_rule(running_moments_p, _without_running)
native.define_lowering(running_moments_p, _one_by_one, ("momentum",), native_name="running_moments", one_call=False)
