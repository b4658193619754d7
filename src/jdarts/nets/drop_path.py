"""Drop path: drops outputs of edges for single images, and scales the others up (Larsson et al., FractalNet, 2017)."""

from typing import Any

import jax
import jax.numpy as jnp

from jdarts.errors import InputError
from jdarts.parallel import device_count, share


def drop_path_factors(
    key: jax.Array,
    probability: float | jax.Array,
    shape: tuple[int, ...],
    dtype: Any = jnp.float32,
    *,
    axis_name: str | None = None,
) -> jax.Array:
    """Random factors for outputs: 0 with the given probability, else 1 / (1 − probability).

    Args:
      key: random key.
      probability: probability of a drop, from 0 to below 1; a number or a scalar array.
      shape: shape of the result; its last axis is that of the images.
      dtype: dtype of the result.
      axis_name: a mapped axis over which the images are spread. Each device draws the factors of all images, so that those of
        an image do not depend on the number of devices.

    Raises:
      InputError: a number outside that range; the value of an array is not checked.
    """
    if isinstance(probability, (int, float)) and not 0 <= probability < 1:
        raise InputError(f"drop path with probability {probability}; give a number from 0 to below 1")
    keep = 1 - jnp.asarray(probability, dtype)
    is_kept = jax.random.bernoulli(key, keep, (*shape[:-1], shape[-1] * device_count(axis_name)))
    return share(jnp.where(is_kept, 1 / keep, jnp.zeros((), dtype)), axis_name, axis=len(shape) - 1)


def drop_path(x: jax.Array, factors: jax.Array) -> jax.Array:
    """Multiplies each image by its factor.

    Args:
      x: `[B, H, W, C]`.
      factors: `[B]`, from `drop_path_factors`.
    """
    return x * factors.reshape(-1, 1, 1, 1)
