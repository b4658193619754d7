"""A loss over parts of its batch, one after another, in the memory of one part."""

from typing import Any

import jax
import jax.numpy as jnp

from jdarts.bilevel import LossFn, PyTree
from jdarts.errors import InputError


def in_microbatches(loss_fn: LossFn, count: int) -> LossFn:
    """The mean of a loss over equal parts of the batch, in the memory of one part for derivatives of any order.

    The backward pass computes each part again instead of keeping it, which costs one more forward pass (Chen, Xu, Zhang and
    Guestrin 2016). If the loss does not mix the examples of a batch, the result is that of the whole batch. Batch normalisation
    does mix them: each part is normalised by its own statistics, and starts from the running statistics before the batch; the
    new running statistics are the mean over the parts.

    On CPUs, the derivatives of XLA's convolutions are slow in the loop over the parts. Those of a supernet's stem stay so; in
    other networks a bilevel step mends them (`jdarts.xla.convolutions`).

    Args:
      loss_fn: the loss. The examples are the first axis of the leaves of its batch.
      count: number of parts.

    Returns:
      The loss in parts. Metrics are means over the parts; part `i` uses the key `fold_in(key, i)`.

    Raises:
      InputError: fewer than one part or, in a call, a batch that does not divide.
    """
    if count < 1:
        raise InputError(f"in_microbatches: {count} parts; give 1 or more")
    if count == 1:
        return loss_fn

    def microbatched_loss(weights: PyTree, alphas: PyTree, model_state: PyTree, batch: PyTree, key: jax.Array) -> Any:
        parts = jax.tree.map(lambda leaf: _parts(leaf, count), batch)

        @jax.checkpoint
        def part_loss(weights: PyTree, alphas: PyTree, part: PyTree, key: jax.Array) -> Any:
            return loss_fn(weights, alphas, model_state, part, key)

        def add(total: Any, index: jax.Array) -> tuple[Any, None]:
            part = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False), parts)
            result = part_loss(weights, alphas, part, jax.random.fold_in(key, index))
            return jax.tree.map(lambda a, b: a + b / count if _is_float(b) else b, total, result), None

        shapes = jax.eval_shape(part_loss, weights, alphas, jax.tree.map(lambda leaf: leaf[0], parts), key)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        # A loop: XLA would compute unrolled parts side by side, in the memory of all.
        return jax.lax.scan(add, zeros, jnp.arange(count, dtype=jnp.int32))[0]

    return microbatched_loss


def _parts(leaf: jax.Array, count: int) -> jax.Array:
    if leaf.shape[0] % count:
        raise InputError(
            f"a batch of {leaf.shape[0]} (on one device) does not divide into {count} equal microbatches; give a number that "
            "divides it"
        )
    return leaf.reshape(count, -1, *leaf.shape[1:])


def _is_float(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)
