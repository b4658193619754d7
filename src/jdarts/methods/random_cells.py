"""A mixture without alphas: each pass has a random cell (random search with weight sharing; Li and Talwalkar 2019)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.methods.perturbation_selection import without_empty_edges
from jdarts.relaxation import (
    Alphas,
    Controls,
    Mixture,
    MixtureWeights,
    Space,
    init_alphas,
    map_tables,
    operations_of,
    same_node,
    softmax_strengths,
)
from jdarts.space import ChoiceSpace

#: Edges into a node that a cell has.
INPUTS = 2


def random_cells(inputs: int = INPUTS) -> Mixture:
    """The mixture: each node of each kind of cell draws so many of its edges, and an operation for each, `none` among them.

    The weight of a drawn operation is 1, all others are 0. Without a key every operation has the probability with which it is
    drawn. In a network with choices every choice draws one of its candidates.

    Args:
      inputs: edges into a node, or all if it has fewer.
    """

    def weights(alphas: Alphas, space: Space, key: jax.Array | None, controls: Controls) -> MixtureWeights:
        del controls
        # The rows of a choice have no node in common.
        nodes = None if isinstance(space, ChoiceSpace) else same_node(space)

        def mean(table: jax.Array, mask: np.ndarray) -> jax.Array:
            share = np.minimum(inputs / _together(nodes, mask).sum(axis=-1), 1)[:, None]
            return jnp.asarray(share * _share(mask), jnp.asarray(table).dtype)

        if key is None:
            return MixtureWeights(map_tables(mean, alphas, space))
        keys = iter(jax.random.split(key, len(operations_of(space))))
        tables = map_tables(
            lambda table, mask: _drawn(next(keys), _together(nodes, mask), mask, inputs, table.dtype), alphas, space
        )
        return without_empty_edges(MixtureWeights(tables))

    return Mixture(
        init_alphas,
        weights,
        softmax_strengths,
        random=True,
        random_in_evaluation=True,
        sums_to_one=False,
        has_alphas=False,
    )


def _together(nodes: np.ndarray | None, mask: np.ndarray) -> np.ndarray:
    """Which edges lead into one node, bool `[E, E]`; each into its own where there are no nodes."""
    return np.eye(len(mask), dtype=bool) if nodes is None else nodes


def _share(mask: np.ndarray) -> np.ndarray:
    return mask / mask.sum(axis=-1, keepdims=True)


def _drawn(key: jax.Array, into: np.ndarray, mask: np.ndarray, inputs: int, dtype: Any) -> jax.Array:
    """The table of one kind of cell, `[E, O]`."""
    edge_key, operation_key = jax.random.split(key)
    noise = jax.random.uniform(edge_key, (len(mask),))
    # An edge is drawn if fewer than `inputs` edges of its node have a smaller number.
    rank = jnp.sum(into & (noise[None, :] < noise[:, None]), axis=-1)
    among = jnp.where(mask, jax.random.uniform(operation_key, mask.shape), -1.0)
    chosen = jax.nn.one_hot(jnp.argmax(among, axis=-1), mask.shape[1], dtype=dtype)
    return jnp.where(rank[:, None] < inputs, chosen, jnp.zeros_like(chosen))


#: The name of the mixture in the records of checkpoints.
RANDOM_CELLS = "random_cells"
