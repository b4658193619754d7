"""What recurrent cells are made of: highway updates, their mixtures, and batch norm over a batch of states."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jdarts.ops.norm import EPSILON, MOMENTUM, Moments
from jdarts.parallel import mean_over


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """The function of a name from `ACTIVATIONS`."""
    return {"tanh": jnp.tanh, "relu": jax.nn.relu, "sigmoid": sigmoid, "identity": lambda x: x}[name]


def sigmoid(x: jax.Array) -> jax.Array:
    """`1 / (1 + exp(−x))` by way of `tanh`, which XLA computes in vectors."""
    return 0.5 + 0.5 * jnp.tanh(0.5 * x)


def highway(states: jax.Array, products: jax.Array, function: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The update of a state by a gate and a candidate: `s + σ(c)·(f(h̃) − s)`.

    Args:
      states: `s`, `[…, H]`.
      products: `c` and `h̃` side by side, `[…, 2H]`.
      function: `f`.

    Returns:
      `[…, H]`.
    """
    gate, candidate = jnp.split(products, 2, axis=-1)
    return states + sigmoid(gate) * (function(candidate) - states)


class Normalised(NamedTuple):
    """States after batch norm, and the statistics of the batch.

    Attributes:
      states: `[B, H]`.
      moments: mean and biased variance, `[H]` each.
    """

    states: jax.Array
    moments: Moments


def normalise_states(states: jax.Array, running: Moments | None = None, axis_name: str | None = None) -> Normalised:
    """Batch norm over a batch of states, without scale or shift.

    Args:
      states: `[B, H]`.
      running: statistics to use instead of the batch's (evaluation), `[H]`.
      axis_name: a mapped axis over which the batch is spread, for the statistics of all of it; None for each device's own.
    """
    if running is None:
        mean = _mean(states, axis_name)
        running = Moments(mean, _mean(jnp.square(states - mean[None]), axis_name))
    scale = lax.rsqrt(running.variance + EPSILON)
    return Normalised((states - running.mean[None]) * scale[None], running)


def _mean(states: jax.Array, axis_name: str | None) -> jax.Array:
    return mean_over(jnp.mean(states, axis=0), axis_name)


def running_moments_over_time(running: Moments, batches: Moments, batch_size: int, length: jax.Array) -> Moments:
    """Running statistics after many batches, one after the other: `0.9 old + 0.1 new` for each, the new variance unbiased.

    Args:
      running: statistics so far, `[H]`.
      batches: statistics of each batch, in order, `[K, H]`.
      batch_size: rows of a batch.
      length: how many of the `K` batches count, int32 `[]`: the first ones.
    """
    later = (length - 1 - jnp.arange(batches.mean.shape[0], dtype=length.dtype)).astype(running.mean.dtype)
    shares = jnp.where(later >= 0, MOMENTUM * (1 - MOMENTUM) ** jnp.maximum(later, 0), jnp.zeros_like(later))
    kept = (1 - MOMENTUM) ** length.astype(running.mean.dtype)

    def average(old: jax.Array, new: jax.Array) -> jax.Array:
        return kept * old + jnp.matmul(shares, new, precision="highest")

    unbiased = batches.variance * (batch_size / max(batch_size - 1, 1))
    return Moments(average(running.mean, batches.mean), average(running.variance, unbiased))
