"""Recurrent cells over time, as pure functions: the search cell and discrete cells (paper section 2.1, appendix A.3).

Both run over time in a loop. The words of a segment enter state 0 by one matrix product for all time steps, outside the loop.
In the loop, the predecessors of a node are stacked into one product.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdarts import native
from jdarts.genotype import RecurrentGenotype
from jdarts.operations import ACTIVATIONS, NONE
from jdarts.ops import highway as kernel
from jdarts.ops.cell_for_accelerators import cell_for_accelerators
from jdarts.ops.found_cell import Node, found_cell
from jdarts.ops.recurrent import CellInputs, masked, mixed_cell, product
from jdarts.ops.running_moments import Moments
from jdarts.ops.search_cell import search_cell as search_cell_natively
from jdarts.space import RecurrentSpace
from jdarts.xla.platform import target_platform


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
    """The outputs of a cell on a segment.

    Attributes:
      outputs: `[T, B, H]`, the hidden state after each word.
      hidden: `[B, H]`, the hidden state after the last word.
      moments: statistics of all batch norms of the search cell in the order of computation, `[T · (N + 1), H]`; None
        for a discrete cell.
    """

    outputs: jax.Array
    hidden: jax.Array
    moments: Moments | None


def mixed_activations(space: RecurrentSpace) -> tuple[str, ...]:
    """The activations whose weights a search cell reads: those of the native kernel, then others that the space holds."""
    others = {name for names in space.recurrent for name in names} - {NONE, *kernel.ACTIVATIONS}
    return (*kernel.ACTIVATIONS, *(name for name in ACTIVATIONS if name in others))


def activation_weights(space: RecurrentSpace, weights: jax.Array) -> jax.Array:
    """Mixture weights of the operations of each edge as weights of the activations; those of `none` are left out.

    Args:
      space: the search space.
      weights: `[E, O]`.

    Returns:
      `[E, F]`, a column for each of `mixed_activations`; 0 for those that an edge's list does not have.
    """
    names_of_columns = mixed_activations(space)
    columns = np.zeros((*weights.shape, len(names_of_columns)))
    for edge, names in enumerate(space.recurrent):
        for column, name in enumerate(names):
            if name != NONE:
                columns[edge, column, names_of_columns.index(name)] = 1
    return jnp.einsum("eo,eof->ef", weights, jnp.asarray(columns, weights.dtype), precision="highest")


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
      running: running statistics for evaluation, `[H]`; by default those of each batch.
      length: number of words before the padding, int32 `[]`; by default all `T`.
      axis_name: a mapped axis for synchronised batch statistics.
    """
    width = hidden.shape[-1]
    projected = product(masked(words, masks.x), weights.input[:width])
    recurrent, concat = weights.input[width:], tuple(space.concat)
    more = [ACTIVATIONS[name].function for name in mixed_activations(space)[len(kernel.ACTIVATIONS) :]]
    plainly = bool(more) or running is not None or axis_name is not None
    if not plainly and native.is_native_here("search_cell", hidden.dtype):
        mask = jnp.ones_like(hidden) if masks.hidden is None else masks.hidden
        steps = jnp.int32(words.shape[0]) if length is None else length
        outputs, last, *moments = search_cell_natively(
            mixture, recurrent, weights.nodes, projected, hidden, mask, steps, concat
        )
        return CellOutputs(outputs, last, Moments(*moments))
    if not plainly and target_platform() != "cpu":
        inputs = CellInputs(recurrent, weights.nodes, projected, hidden, masks.hidden, length)
        return CellOutputs(*cell_for_accelerators(mixture, inputs, concat))
    return CellOutputs(
        *mixed_cell(
            mixture,
            recurrent,
            weights.nodes,
            projected,
            hidden,
            masks.hidden,
            length,
            concat=concat,
            more=more,
            running=running,
            axis_name=axis_name,
        )
    )


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
    width = hidden.shape[-1]
    projected = product(masked(words, masks.x), weights.input[:width])
    nodes = [Node(ACTIVATIONS[name].function, source) for name, source in genotype.recurrent]
    inputs = CellInputs(weights.input[width:], weights.nodes, projected, hidden, masks.hidden, length)
    return CellOutputs(*found_cell(inputs, nodes, genotype.concat), None)
