"""Partial channels: operations see a part of the channels of an edge, the others bypass them (Xu et al., PC-DARTS, 2020)."""

import jax
import jax.numpy as jnp

from jdarts.nets.node_sums import place, sizes, sums_by_image
from jdarts.nets.stages import Stage
from jdarts.ops.channel_shuffle import channel_shuffle
from jdarts.ops.mixing import combine
from jdarts.ops.pool import max_pool_2x2
from jdarts.ops.precision import wide_type


def split_channels(states: jax.Array, partial_channels: int) -> tuple[jax.Array, jax.Array]:
    """The first of `partial_channels` parts of the channels, and the others."""
    first = states.shape[-1] // partial_channels
    return states[..., :first], states[..., first:]


def merge_channels(mixed: jax.Array, bypassing: jax.Array, partial_channels: int) -> jax.Array:
    """Joins both parts of finished nodes, and shuffles their channels.

    The shuffle of a sum is the sum of the shuffled edges, so one shuffle for each node is enough.
    """
    return channel_shuffle(jnp.concatenate([mixed, bypassing], axis=-1), partial_channels)


def bypass(
    states: jax.Array,
    sums: jax.Array | None,
    edge_factors: jax.Array | None,
    image_factors: jax.Array | None,
    *,
    stage: Stage,
    unfinished: int,
    stride: int,
) -> tuple[jax.Array, jax.Array | None]:
    """Adds the channels that no operation sees to the nodes; where the stride is 2, their 2×2 maxima.

    Args:
      states: these channels of the stage's sources, `[S, B, H, W, C']`.
      sums: their sums of earlier stages, a row for each unfinished node; None in the first stage.
      edge_factors: of all edges of the cell, `[E]`; None for 1.
      image_factors: of the stage's edges and the images, `[edges of the stage, B]`; None for 1.
      stage: the sources and their edges.
      unfinished: number of unfinished nodes.
      stride: 1 or 2.

    Returns:
      The finished node `[1, B, H', W', C']`, and the sums of the others, or None if there are none.
    """
    maps = max_pool_2x2(states) if stride == 2 else states
    dtype = wide_type(maps.dtype)
    factors = jnp.ones(len(stage.edges), dtype)
    if edge_factors is not None:
        factors = jnp.stack([edge_factors[edge.number] for edge in stage.edges])
    rows = [edge.target - stage.first_node for edge in stage.edges]
    if image_factors is not None:
        of_edges = jnp.stack([maps[edge.source] for edge in stage.edges])
        finished, *others = sums_by_image(of_edges, factors[:, None] * image_factors, rows, sums, unfinished)
        return finished, others[0] if others else None
    routes = [(0, edge.source, *place(row)) for edge, row in zip(stage.edges, rows)]
    stacks = [maps]
    if sums is not None:
        routes += [(1, row, *place(row)) for row in range(unfinished)]
        stacks.append(sums)
        factors = jnp.concatenate([factors, jnp.ones(unfinished, dtype)])
    weights = jnp.broadcast_to(factors[:, None], (len(routes), maps.shape[-1]))
    finished, *others = combine(weights, stacks, routes=tuple(routes), sizes=sizes(unfinished))
    return finished, others[0] if others else None
