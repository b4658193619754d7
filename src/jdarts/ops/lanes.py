"""The lanes of a vmapped axis, joined with an axis that an array has anyway: how batched primitives stay single calls."""

from typing import Any

import jax
import jax.numpy as jnp


def merged(a: Any, mapped: int | None, count: int, axis: int) -> jax.Array:
    """The vmapped axis of `a` joined, as the slower one, with what is then axis number `axis`.

    Args:
      a: an array.
      mapped: its vmapped axis; None where all lanes share it.
      count: number of lanes.
      axis: the axis to join, as numbered without the vmapped one.
    """
    a = jnp.broadcast_to(a, (count, *a.shape)) if mapped is None else jnp.moveaxis(a, mapped, 0)
    a = jnp.moveaxis(a, 0, axis)
    return a.reshape(*a.shape[:axis], a.shape[axis] * a.shape[axis + 1], *a.shape[axis + 2 :])


def split(a: jax.Array, count: int, axis: int) -> jax.Array:
    """`merged`, taken back: the lanes are axis number `axis`."""
    return a.reshape(*a.shape[:axis], count, a.shape[axis] // count, *a.shape[axis + 1 :])
