"""Parts of recurrent cells: highway updates, batch norm over a batch of states, and the loop over time."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jdarts.ops.highway import ACTIVATIONS, mixed_highway
from jdarts.ops.norm import EPSILON
from jdarts.ops.running_moments import MOMENTUM, Moments
from jdarts.parallel import mean_over
from jdarts.xla.platform import target_platform


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


class CellInputs(NamedTuple):
    """What a cell reads of its weights and of a segment.

    Attributes:
      recurrent: as in `over_time`.
      matrices: of the nodes, `[N, H, 2H]`.
      projected: as in `over_time`.
      hidden: as in `over_time`.
      mask: as in `over_time`, and on the states where they enter a product.
      length: as in `over_time`.
    """

    recurrent: jax.Array
    matrices: jax.Array
    projected: jax.Array
    hidden: jax.Array
    mask: jax.Array | None
    length: jax.Array | None


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
      running: running statistics for evaluation, `[H]`; by default those of the batch.
      axis_name: a mapped axis over which the batch is spread, for the statistics of all of it; None for each device's own.
    """
    if running is None:
        mean = _mean(states, axis_name)
        running = Moments(mean, _mean(jnp.square(states - mean[None]), axis_name))
    scale = lax.rsqrt(running.variance + EPSILON)
    return Normalised((states - running.mean[None]) * scale[None], running)


def _mean(states: jax.Array, axis_name: str | None) -> jax.Array:
    return mean_over(jnp.mean(states, axis=0), axis_name)


def over_time(
    states_of: Callable[[jax.Array, jax.Array], tuple[jax.Array, Any]],
    projected: jax.Array,
    recurrent: jax.Array,
    hidden: jax.Array,
    mask: jax.Array | None,
    length: jax.Array | None,
) -> tuple[jax.Array, jax.Array, Any]:
    """Runs a cell over the words of a segment.

    On accelerators, derivatives compute a word's states again: there, each array that is kept of a word is a launch to write it
    and one to read it.

    Args:
      states_of: from the hidden state `[B, H]` and the input's product `[B, 2H]`, the next hidden state and other results.
      projected: products of the words with the input matrix `[T, B, 2H]`.
      recurrent: matrix of the hidden state `[H, 2H]`.
      hidden: the state before the first word, `[B, H]`.
      mask: dropout mask `[B, H]` of the hidden state where it enters the product.
      length: number of words before the padding; by default all `T`.

    Returns:
      Outputs `[T, B, H]`, the hidden state after the last word, and the other results, stacked.
    """

    def step(hidden: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        words, time = inputs
        output, rest = states_of(hidden, words + product(masked(hidden, mask), recurrent))
        return output if length is None else jnp.where(time < length, output, hidden), (output, rest)

    times = jnp.arange(projected.shape[0], dtype=jnp.int32)
    again = step if target_platform() == "cpu" else jax.checkpoint(step, prevent_cse=False)
    hidden, (outputs, rest) = lax.scan(again, hidden, (projected, times))
    return outputs, hidden, rest


def step_backward(
    of_output: jax.Array, of_hidden: jax.Array, time: jax.Array, length: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Reverses what a step of `over_time` does with the result of its cell.

    Args:
      of_output: the cotangent of the word's output, `[B, H]`.
      of_hidden: that of the hidden state after the word.
      time: the number of the word.
      length: as in `over_time`.

    Returns:
      The cotangent of the cell's result, and that of the hidden state before the word so far as it passes by the cell.
    """
    none = jnp.zeros_like(of_hidden)
    if length is None:
        return of_output + of_hidden, none
    going = time < length
    return of_output + jnp.where(going, of_hidden, none), jnp.where(going, none, of_hidden)


def mixed_cell(
    mixture: jax.Array,
    recurrent: jax.Array,
    matrices: jax.Array,
    projected: jax.Array,
    hidden: jax.Array,
    mask: jax.Array | None,
    length: jax.Array | None,
    *,
    concat: Sequence[int],
    more: Sequence[Callable[[jax.Array], jax.Array]] = (),
    running: Moments | None = None,
    axis_name: str | None = None,
    highways: Callable[..., jax.Array] = mixed_highway,
) -> tuple[jax.Array, jax.Array, Moments]:
    """The search cell over time, in operations of JAX.

    Args:
      mixture: weights of the activations `[E, F]`, a column for each of `jdarts.ops.highway.ACTIVATIONS`, then one for each of
        `more`.
      recurrent: as in `over_time`.
      matrices: of the nodes, `[N, H, 2H]`.
      projected: as in `over_time`.
      hidden: as in `over_time`.
      mask: as in `over_time`, and on the states where they enter a product.
      length: as in `over_time`.
      concat: the states whose mean is the output.
      more: activations beside those of the kernel.
      running: as in `normalise_states`.
      axis_name: as in `normalise_states`.
      highways: `mixed_highway`, or a function that computes the same.

    Returns:
      Outputs `[T, B, H]`, the hidden state after the last word, and the statistics of the norms `[T · (N + 1), H]`.
    """
    rows = rows_of_nodes(mixture, matrices.shape[0])
    # A CPU has separate matrices for gate and candidate: to join their derivatives, it would copy them at every step. Elsewhere
    # one product is one launch.
    parts = 2 if target_platform() == "cpu" else 1
    nodes = [jnp.split(node, parts, axis=-1) for node in matrices]

    def states_of(hidden: jax.Array, words: jax.Array) -> tuple[jax.Array, Moments]:
        normalised = [normalise_states(highway(hidden, words, jnp.tanh), running, axis_name)]
        for mixture_rows, node in zip(rows, nodes):
            states = jnp.stack([one.states for one in normalised])
            dropped = masked(states, mask)
            products = [product(dropped, part) for part in node]
            gates, candidates = products if len(products) == 2 else jnp.split(products[0], 2, axis=-1)
            of_kernel = mixture_rows[:, : len(ACTIVATIONS)] if more else mixture_rows
            mixed = highways(of_kernel, states, gates, candidates)
            for column, function in enumerate(more, len(ACTIVATIONS)):
                update = states + sigmoid(gates) * (function(candidates) - states)
                mixed += jnp.sum(mixture_rows[:, column, None, None] * update, axis=0)
            normalised.append(normalise_states(mixed, running, axis_name))
        output = mean_of_states([normalised[state].states for state in concat])
        return output, Moments(*map(jnp.stack, zip(*(one.moments for one in normalised))))

    outputs, hidden, moments = over_time(states_of, projected, recurrent, hidden, mask, length)
    return outputs, hidden, Moments(*(moment.reshape(-1, moment.shape[-1]) for moment in moments))


def rows_of_nodes(mixture: jax.Array, nodes: int) -> list[jax.Array]:
    """The rows `[P, F]` of each node in the weights of a mixture `[E, F]`; a node has an edge from every state before it."""
    starts = np.cumsum([0, *range(1, nodes + 1)])
    return [mixture[start:stop] for start, stop in itertools.pairwise(starts)]


def product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """`x · matrix` as one product of two matrices, whatever axes precede the last of `x`."""
    flat = jnp.matmul(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), matrix)
    return flat.reshape(*x.shape[:-1], matrix.shape[-1])


def gradient_of_matrix(x: jax.Array, of_product: jax.Array) -> jax.Array:
    """The gradient of the matrix of a product `x · matrix`, whatever axes precede the last ones.

    Args:
      x: `[…, H]`.
      of_product: the cotangent of the product, `[…, K]`.

    Returns:
      `[H, K]`.
    """
    return jnp.matmul(x.reshape(-1, x.shape[-1]).T, of_product.reshape(-1, of_product.shape[-1]))


def masked(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """`x` times a mask of its last axes; `x` itself without a mask."""
    return x if mask is None else x * jnp.expand_dims(mask, range(x.ndim - mask.ndim))


def mean_of_states(states: Sequence[jax.Array]) -> jax.Array:
    """The mean of arrays of one shape."""
    return sum(states[1:], states[0]) / len(states)


def mean_backward(of_mean: jax.Array, concat: Sequence[int], count: int) -> list[jax.Array]:
    """The cotangents of `count` states, of which `concat` are the states of a `mean_of_states`, from that of the mean."""
    share, none = of_mean / len(concat), jnp.zeros_like(of_mean)
    return [concat.count(state) * share if state in concat else none for state in range(count)]


def running_moments_over_time(running: Moments, batches: Moments, batch_size: int, length: jax.Array) -> Moments:
    """Running statistics after many batches, one after the other: `0.9 old + 0.1 new` for each, the new variance unbiased.

    Args:
      running: statistics so far, `[H]`.
      batches: statistics of each batch, in order, `[K, H]`.
      batch_size: rows of a batch.
      length: how many of the `K` batches count, an integer `[]`: the first ones.
    """
    length = length.astype(jnp.int32)
    later = (length - 1 - jnp.arange(batches.mean.shape[0], dtype=jnp.int32)).astype(running.mean.dtype)
    shares = jnp.where(later >= 0, MOMENTUM * (1 - MOMENTUM) ** jnp.maximum(later, 0), jnp.zeros_like(later))
    old_share = (1 - MOMENTUM) ** length.astype(running.mean.dtype)

    def average(old: jax.Array, new: jax.Array) -> jax.Array:
        return old_share * old + jnp.matmul(shares, new, precision="highest")

    unbiased = batches.variance * (batch_size / max(batch_size - 1, 1))
    return Moments(average(running.mean, batches.mean), average(running.variance, unbiased))
