"""Recurrent cells over time, as pure functions: the search cell and discrete cells (paper section 2.1, appendix A.3).

Both run with `lax.scan`. What the words of a segment give to state 0 is one matrix product for all time steps, outside the
loop; in the loop the predecessors of a node are stacked into one product.
"""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jdarts.errors import InputError
from jdarts.genotype import ACTIVATIONS, NONE, RecurrentGenotype
from jdarts.ops.highway import mixed_highway
from jdarts.ops.norm import Moments
from jdarts.ops.recurrent import activation, highway, normalise_states
from jdarts.space import RecurrentSpace


class CellWeights(NamedTuple):
    """Weights of a recurrent cell.

    Attributes:
      input: `[2H, 2H]`; its first `H` rows act on the word, the others on the last hidden state. The first `H` columns
        make the gate, the others the candidate.
      nodes: `[N, H, 2H]`, one matrix per node for all its predecessors and operations.
    """

    input: jax.Array
    nodes: jax.Array


class CellMasks(NamedTuple):
    """Dropout masks of a recurrent cell, the same at all time steps and nodes; None for no dropout.

    Attributes:
      x: `[B, H]`, on the words.
      hidden: `[B, H]`, on the last hidden state and on states, where they enter a product and only there.
    """

    x: jax.Array | None
    hidden: jax.Array | None


class CellOutputs(NamedTuple):
    """What a cell makes of a segment.

    Attributes:
      outputs: `[T, B, H]`, the hidden state after each word.
      hidden: `[B, H]`, that after the last word.
      moments: statistics of all batch norms of the search cell in the order of computation, `[T · (N + 1), H]`; None
        for a discrete cell.
    """

    outputs: jax.Array
    hidden: jax.Array
    moments: Moments | None


def init_recurrent_alphas(key: jax.Array, space: RecurrentSpace, dtype: Any = jnp.float32) -> jax.Array:
    """Architecture parameters at the start: `1e-3 · N(0, 1)`, as in the reference implementation; `[E, O]`."""
    return 1e-3 * jax.random.normal(key, (space.num_edges, space.width), dtype)


def activation_weights(space: RecurrentSpace, alphas: jax.Array) -> jax.Array:
    """Softmax of the alphas over the operations of each edge, `none` among them, as weights of the activations.

    Args:
      space: the search space.
      alphas: `[E, O]`.

    Returns:
      `[E, F]`, a column for each of `ACTIVATIONS`; 0 for those that an edge's list does not have.

    Raises:
      InputError: alphas of another shape.
    """
    expected = (space.num_edges, space.width)
    if alphas.shape != expected:
        raise InputError(f"the alphas of the recurrent cell have shape {alphas.shape}; this space needs {expected}")
    lengths = np.array([len(edge) for edge in space.recurrent])
    columns = np.zeros((*expected, len(ACTIVATIONS)))
    for edge, names in enumerate(space.recurrent):
        for column, name in enumerate(names):
            if name != NONE:
                columns[edge, column, ACTIVATIONS.index(name)] = 1
    probabilities = jax.nn.softmax(alphas, axis=-1, where=np.arange(expected[1])[None, :] < lengths[:, None])
    return jnp.einsum("eo,eof->ef", probabilities, jnp.asarray(columns, alphas.dtype), precision="highest")


def search_cell(
    space: RecurrentSpace,
    weights: CellWeights,
    mixture: jax.Array,
    words: jax.Array,
    hidden: jax.Array,
    masks: CellMasks,
    *,
    running: Moments | None = None,
    length: jax.Array | None = None,
    axis_name: str | None = None,
) -> CellOutputs:
    """Runs the cell that holds all operations at once.

    Args:
      space: the search space.
      weights: the cell's weights.
      mixture: `[E, F]`, as `activation_weights` gives it.
      words: embedded words `[T, B, H]`.
      hidden: `[B, H]`, the state before the first word.
      masks: dropout masks.
      running: statistics that normalise (evaluation), `[H]`; those of each batch where it is not given.
      length: number of words before the padding, int32 `[]`; all `T` where it is not given.
      axis_name: a mapped axis for synchronised batch statistics.
    """
    starts = np.cumsum([0, *range(1, space.nodes + 1)])
    rows = [mixture[start:stop] for start, stop in itertools.pairwise(starts)]
    width = hidden.shape[-1]
    # Gate and candidate apart: what joins their derivatives again would be copied at every step.
    nodes = [(node[:, :width], node[:, width:]) for node in weights.nodes]

    def states_of(hidden: jax.Array, product: jax.Array) -> tuple[jax.Array, Moments]:
        normalised = [normalise_states(highway(hidden, product, jnp.tanh), running, axis_name)]
        for mixture_rows, (gate, candidate) in zip(rows, nodes):
            states = jnp.stack([one.states for one in normalised])
            masked = _masked(states, masks.hidden)
            mixed = mixed_highway(mixture_rows, states, _product(masked, gate), _product(masked, candidate))
            normalised.append(normalise_states(mixed, running, axis_name))
        output = _mean([normalised[state].states for state in space.concat])
        return output, Moments(*map(jnp.stack, zip(*(one.moments for one in normalised))))

    result = _over_time(states_of, weights, words, hidden, masks, length)
    assert result.moments is not None
    moments = Moments(*(moment.reshape(-1, moment.shape[-1]) for moment in result.moments))
    return result._replace(moments=moments)


def discrete_cell(
    genotype: RecurrentGenotype,
    weights: CellWeights,
    words: jax.Array,
    hidden: jax.Array,
    masks: CellMasks,
    *,
    length: jax.Array | None = None,
) -> CellOutputs:
    """Runs a discrete cell; it has no batch norm. Nodes that read the same state share one matrix product.

    Args:
      genotype: the cell.
      weights: the cell's weights.
      words: as in `search_cell`.
      hidden: as in `search_cell`.
      masks: as in `search_cell`.
      length: as in `search_cell`.
    """
    readers: dict[int, list[int]] = {}
    for node, (_, source) in enumerate(genotype.recurrent):
        readers.setdefault(source, []).append(node)
    joined = {
        source: jnp.concatenate([weights.nodes[node] for node in nodes], axis=-1) for source, nodes in readers.items()
    }

    def states_of(hidden: jax.Array, product: jax.Array) -> tuple[jax.Array, None]:
        states = [highway(hidden, product, jnp.tanh)]
        products: dict[int, jax.Array] = {}
        for node, (name, source) in enumerate(genotype.recurrent):
            if node == readers[source][0]:
                parts = jnp.split(
                    _product(_masked(states[source], masks.hidden), joined[source]), len(readers[source]), axis=-1
                )
                products |= dict(zip(readers[source], parts))
            states.append(highway(states[source], products[node], activation(name)))
        return _mean([states[state] for state in genotype.concat]), None

    return _over_time(states_of, weights, words, hidden, masks, length)


def _over_time(
    states_of: Any,
    weights: CellWeights,
    words: jax.Array,
    hidden: jax.Array,
    masks: CellMasks,
    length: jax.Array | None,
) -> CellOutputs:
    width = hidden.shape[-1]
    projected = _product(_masked(words, masks.x), weights.input[:width])
    recurrent = weights.input[width:]

    def step(hidden: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        product, time = inputs
        output, moments = states_of(hidden, product + _product(_masked(hidden, masks.hidden), recurrent))
        return output if length is None else jnp.where(time < length, output, hidden), (output, moments)

    times = jnp.arange(words.shape[0], dtype=jnp.int32)
    hidden, (outputs, moments) = lax.scan(step, hidden, (projected, times))
    return CellOutputs(outputs, hidden, moments)


def _product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """`x · matrix` as one product of two matrices, whatever axes precede the last of `x`."""
    flat = jnp.matmul(x.reshape(-1, x.shape[-1]), matrix)
    return flat.reshape(*x.shape[:-1], matrix.shape[-1])


def _masked(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    return x if mask is None else x * jnp.expand_dims(mask, range(x.ndim - mask.ndim))


def _mean(states: list[jax.Array]) -> jax.Array:
    return sum(states[1:], states[0]) / len(states)
