"""Sums and counts of every jitted step, and scores of evaluations."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax


def first_not_finite(before: jax.Array, finite: jax.Array, step: jax.Array) -> jax.Array:
    """The first step with a value that is not finite: `before` if above 0, else `step` if `finite` is false, else 0."""
    return jnp.where((before > 0) | finite, before, step)


def epoch_sums(
    sums: Mapping[str, jax.Array], metrics: Mapping[str, jax.Array], *, starts_epoch: jax.Array
) -> dict[str, jax.Array]:
    """Adds the metrics of a step to the sums over its epoch, which start from 0 with an epoch's first step."""
    return {name: jnp.where(starts_epoch, jnp.zeros_like(total), total) + metrics[name] for name, total in sums.items()}


def right_answers(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the largest logit `[B, K]` is that of the label `[B]`: bool `[B]`."""
    return jnp.argmax(logits, axis=-1) == labels


def scores(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum of the cross entropies and number of right answers over the images in the mask.

    Args:
      logits: `[B, K]`.
      labels: int32 `[B]`.
      mask: bool `[B]`.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.sum(jnp.where(mask, losses, 0.0)), jnp.sum(mask & right_answers(logits, labels))
