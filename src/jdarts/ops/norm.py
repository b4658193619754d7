"""Batch normalisation in parts: the statistics of a batch, and the scale and shift that they make."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

#: PyTorch's defaults, which the reference implementation uses throughout.
EPSILON = 1e-5
MOMENTUM = 0.1


class Moments(NamedTuple):
    """Mean and variance per channel, `[…, C]`."""

    mean: jax.Array
    variance: jax.Array


def batch_moments(x: jax.Array, *, axis_name: str | None = None) -> Moments:
    """Mean and biased variance over batch and image, in one pass.

    Sums are taken of differences to one pixel of each channel: the variance does not depend on that shift, and does not
    cancel where the mean is large beside it.

    Args:
      x: `[…, B, H, W, C]`.
      axis_name: a mapped axis over which the batch is spread; None for the statistics of this device alone.

    Returns:
      Moments `[…, C]`.
    """
    shift = lax.stop_gradient(x[..., :1, :1, :1, :])
    centred = x - shift
    mean = jnp.mean(centred, axis=(-4, -3, -2))
    variance = jnp.maximum(jnp.mean(jnp.square(centred), axis=(-4, -3, -2)) - jnp.square(mean), 0)
    mean = mean + shift[..., 0, 0, 0, :]
    if axis_name is not None:
        overall = lax.pmean(mean, axis_name)
        variance = lax.pmean(variance + jnp.square(mean - overall), axis_name)
        mean = overall
    return Moments(mean, variance)


def scale_and_shift(moments: Moments) -> tuple[jax.Array, jax.Array]:
    """The factors of `(x − mean) / √(variance + ε) = x · scale + shift`, each `[…, C]`."""
    scale = lax.rsqrt(moments.variance + EPSILON)
    return scale, -moments.mean * scale


def running_moments(running: Moments, batch: Moments, count: int) -> Moments:
    """Running statistics after one more batch: 0.9 old + 0.1 new, the new variance unbiased.

    Args:
      running: statistics so far, `[…, C]`.
      batch: statistics of the batch, `[…, C]`.
      count: numbers per channel that the batch's statistics were taken over.
    """
    unbiased = batch.variance * (count / max(count - 1, 1))
    return Moments(
        (1 - MOMENTUM) * running.mean + MOMENTUM * batch.mean,
        (1 - MOMENTUM) * running.variance + MOMENTUM * unbiased,
    )
