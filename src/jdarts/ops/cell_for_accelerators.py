"""The recurrent search cell for accelerators, with a derivative whose loop holds only what has to wait for another word.

The derivative of a loop takes a launch for each small operation of each word. But all states are known when it begins. So the
products of states and matrices are computed for all words at once before the loop, and the gradients of matrices and mixture
weights after it. The loop moves cotangents from a word to the one before: a batch norm, a mixture and a product for each node.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jdarts.ops.highway import mixed_highway, mixed_highway_backward
from jdarts.ops.norm import EPSILON
from jdarts.ops.recurrent import (
    CellInputs,
    Normalised,
    gradient_of_matrix,
    highway,
    masked,
    mean_backward,
    mean_of_states,
    normalise_states,
    over_time,
    product,
    rows_of_nodes,
    sigmoid,
    step_backward,
)
from jdarts.ops.running_moments import Moments


class Kept(NamedTuple):
    """What the derivative reads of the words: hidden states before them `[T, B, H]`, states of nodes `[T, N + 1, B, H]`."""

    before: jax.Array
    states: jax.Array
    variance: jax.Array


Results = tuple[jax.Array, jax.Array, Moments]


def cell_for_accelerators(mixture: jax.Array, inputs: CellInputs, concat: Sequence[int]) -> Results:
    """Equal to `jdarts.ops.recurrent.mixed_cell` with the statistics of each batch.

    Derivatives of every order in reverse mode; none reaches the mask, which is a constant.

    Args:
      mixture: weights of the activations `[E, F]`.
      inputs: of the cell.
      concat: the states whose mean is the output.

    Returns:
      Outputs `[T, B, H]`, the hidden state after the last word, and the statistics of the norms `[T · (N + 1), H]`.
    """
    results: Any = _cell(mixture, inputs, tuple(concat))
    return results


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _cell(mixture: jax.Array, inputs: CellInputs, concat: tuple[int, ...]) -> Results:
    return _forward(mixture, inputs, concat)[0]


def _forward(mixture: jax.Array, inputs: CellInputs, concat: tuple[int, ...]) -> tuple[Results, Kept]:
    matrices, mask = inputs.matrices, inputs.mask
    rows = rows_of_nodes(mixture, len(matrices))

    def states_of(hidden: jax.Array, words: jax.Array) -> tuple[jax.Array, Any]:
        found: list[Normalised] = [normalise_states(highway(hidden, words, jnp.tanh))]
        for weights, matrix in zip(rows, matrices):
            states = jnp.stack([one.states for one in found])
            gates, candidates = jnp.split(product(masked(states, mask), matrix), 2, axis=-1)
            found.append(normalise_states(mixed_highway(weights, states, gates, candidates)))
        moments = Moments(*map(jnp.stack, zip(*(one.moments for one in found))))
        states = [one.states for one in found]
        return mean_of_states([states[state] for state in concat]), (moments, hidden, jnp.stack(states))

    outputs, last, (moments, before, states) = over_time(
        states_of, inputs.projected, inputs.recurrent, inputs.hidden, mask, inputs.length
    )
    flat = Moments(*(moment.reshape(-1, moment.shape[-1]) for moment in moments))
    return (outputs, last, flat), Kept(before, states, moments.variance)


def _forward_rule(
    mixture: jax.Array, inputs: CellInputs, concat: tuple[int, ...]
) -> tuple[Results, tuple[jax.Array, CellInputs, Kept]]:
    results, kept = _forward(mixture, inputs, concat)
    return results, (mixture, inputs, kept)


class _Word(NamedTuple):
    """What the loop reads of a word: cotangents of its results, and what the forward pass has computed."""

    of_output: jax.Array
    of_moments: Moments
    time: jax.Array
    before: jax.Array
    products: jax.Array
    states: jax.Array
    scale: jax.Array
    of_nodes: tuple[jax.Array, ...]


def _backward_rule(
    concat: tuple[int, ...], residuals: tuple[jax.Array, CellInputs, Kept], cotangents: Results
) -> tuple[jax.Array, CellInputs]:
    (mixture, inputs, kept), (of_outputs, of_last, of_moments) = residuals, cotangents
    steps, count, batch, width = kept.states.shape
    nodes, mask = range(1, count), inputs.mask
    rows = rows_of_nodes(mixture, len(inputs.matrices))
    # The states that each node reads where they enter its product, of all words.
    dropped = [masked(kept.states[:, :node], mask) for node in nodes]
    dropped_before = masked(kept.before, mask)

    def of_word(of_hidden: jax.Array, word: _Word) -> tuple[jax.Array, Any]:
        of_output, around_cell = step_backward(word.of_output, of_hidden, word.time, inputs.length)
        of_states = jnp.stack(mean_backward(of_output, concat, count))
        of_sums, of_products = [], []
        for node in reversed(nodes):
            of_sum = _norm_backward(of_states[node], word, node, batch)
            gates, candidates = jnp.split(word.of_nodes[node - 1], 2, axis=-1)
            _, around, *of_both = mixed_highway_backward(rows[node - 1], word.states[:node], gates, candidates, of_sum)
            of_product = jnp.concatenate(of_both, axis=-1)
            of_states = of_states[:node] + around + masked(product(of_product, inputs.matrices[node - 1].T), mask)
            of_sums.append(of_sum)
            of_products.append(of_product)
        of_sum = _norm_backward(of_states[0], word, 0, batch)
        gate, candidate = jnp.split(word.products, 2, axis=-1)
        gate, candidate = sigmoid(gate), jnp.tanh(candidate)
        of_gate = of_sum * (candidate - word.before) * gate * (1 - gate)
        of_words = jnp.concatenate([of_gate, of_sum * gate * (1 - candidate * candidate)], axis=-1)
        of_before = around_cell + of_sum * (1 - gate) + masked(product(of_words, inputs.recurrent.T), mask)
        return of_before, (of_words, of_sums[::-1], of_products[::-1])

    words = _Word(
        of_outputs,
        Moments(*(moment.reshape(steps, count, width) for moment in of_moments)),
        jnp.arange(steps, dtype=jnp.int32),
        kept.before,
        inputs.projected + product(dropped_before, inputs.recurrent),
        kept.states,
        lax.rsqrt(kept.variance + EPSILON),
        tuple(product(states, matrix) for states, matrix in zip(dropped, inputs.matrices)),
    )
    of_hidden, (of_words, of_sums, of_products) = lax.scan(
        jax.checkpoint(of_word, prevent_cse=False), of_last, words, reverse=True
    )
    of_mixture = []
    for node, products, of_sum in zip(nodes, words.of_nodes, of_sums):
        of_weights = jax.vmap(functools.partial(_of_weights, rows[node - 1]))(kept.states[:, :node], products, of_sum)
        of_mixture.append(jnp.sum(of_weights, axis=0))
    of_matrices = [gradient_of_matrix(*pair) for pair in zip(dropped, of_products)]
    return jnp.concatenate(of_mixture), CellInputs(
        gradient_of_matrix(dropped_before, of_words),
        jnp.stack(of_matrices),
        of_words,
        of_hidden,
        None if mask is None else jnp.zeros_like(mask),
        None,
    )


def _norm_backward(of_states: jax.Array, word: _Word, node: int, batch: int) -> jax.Array:
    """The cotangent of what a norm reads, from those of its states, mean and variance."""
    states, scale = word.states[node], word.scale[node][None]
    of_mean, of_variance = word.of_moments.mean[node][None], word.of_moments.variance[node][None]
    through = of_states - jnp.mean(of_states, axis=0)[None] - states * jnp.mean(of_states * states, axis=0)[None]
    return scale * through + (of_mean + 2 * of_variance * states / scale) / batch


def _of_weights(rows: jax.Array, states: jax.Array, products: jax.Array, of_sum: jax.Array) -> jax.Array:
    return mixed_highway_backward(rows, states, *jnp.split(products, 2, axis=-1), of_sum)[0]


_cell.defvjp(_forward_rule, _backward_rule)
