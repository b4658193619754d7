"""The training batches of one bilevel step: one for each weight step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jdarts.bilevel.problem import PyTree
from jdarts.errors import InputError


class TrainingPass(NamedTuple):
    """Batch and key of the training losses of one weight step."""

    batch: PyTree
    key: jax.Array


def training_passes(train_batch: PyTree, key: jax.Array, weight_steps: int) -> list[TrainingPass]:
    """Batch and key of each weight step of one bilevel step; the first has the key itself.

    Raises:
      InputError: another number of batches than of weight steps, or batches of different shapes.
    """
    if weight_steps < 1:
        raise InputError(f"bilevel_step: weight_steps is {weight_steps}; give 1 or more")
    if weight_steps == 1:
        return [TrainingPass(train_batch, key)]
    if not isinstance(train_batch, tuple | list) or len(train_batch) != weight_steps:
        given = f"{len(train_batch)} batches" if isinstance(train_batch, tuple | list) else type(train_batch).__name__
        raise InputError(
            f"bilevel_step: train_batch is {given}; give a tuple of {weight_steps} batches for {weight_steps} weight steps"
        )
    shapes = [jax.tree.map(jnp.shape, batch) for batch in train_batch]
    if any(shape != shapes[0] for shape in shapes):
        raise InputError(
            "bilevel_step: the batches of train_batch differ in their shapes; give all one structure and shape"
        )
    return [
        TrainingPass(batch, jax.random.fold_in(key, place) if place else key) for place, batch in enumerate(train_batch)
    ]


def mean_of_steps(values: jax.Array) -> jax.Array:
    """A metric of several weight steps, `[steps, …]`: the mean, or the last one of what has no mean."""
    return jnp.mean(values, 0) if jnp.issubdtype(values.dtype, jnp.inexact) else values[-1]
