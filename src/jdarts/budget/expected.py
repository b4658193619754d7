"""The expected cost of a mixture, differentiable in the alphas."""

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.budget.cost import Cost
from jdarts.relaxation import MixtureWeights, same_node
from jdarts.space import SearchSpace


def expected_cost(cost: Cost, weights: MixtureWeights, space: SearchSpace, edges_per_node: int = 2) -> jax.Array:
    """The base plus Σ over edges and operations of share of the edge × weight × cost.

    It is the mean cost of cells whose nodes keep `edges_per_node` of their edges, each with an operation drawn by its weight;
    `none` costs nothing. Every edge of a node is kept as often as the others, or by its factor if the mixture has those.

    Args:
      cost: what is counted.
      weights: of the mixture; the mean over cells that have separate ones counts.
      space: the search space.
      edges_per_node: edges that derivation keeps for each node.

    Returns:
      A scalar in the unit of the cost, of the type of the weights.
    """
    incoming = same_node(space).sum(axis=-1)
    kept = np.minimum(edges_per_node, incoming)
    of_cells = []
    for kind in space.kinds:
        operations = _mean(weights.operations[kind], 2)
        share = jnp.asarray(kept / incoming, operations.dtype)
        if weights.edges is not None:
            share = jnp.asarray(kept, operations.dtype) * _mean(weights.edges[kind], 1)
        table = jnp.asarray(cost.tables[kind], operations.dtype)
        of_cells.append(jnp.sum(share * jnp.sum(operations * table, axis=-1)))
    return cost.base + sum(of_cells[1:], of_cells[0])


def _mean(table: jax.Array, axes: int) -> jax.Array:
    """The mean over cells, of a table with so many axes or with one more for the cells."""
    return jnp.mean(table, axis=0) if table.ndim > axes else table
