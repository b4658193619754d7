"""Handwritten digits for the examples: images, their shifts, and a network with one hidden layer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from sklearn.datasets import load_digits


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images `[1797, 8, 8]` from 0 to 1, and labels `[1797]`."""
    found: Any = load_digits()
    return (found.images / 16).astype(np.float32), found.target


def shifted(images: jax.Array, by: jax.Array) -> jax.Array:
    """Images `[N, 8, 8]` shifted by `[N, 2]` pixels, with linear interpolation."""
    grid = jnp.stack(jnp.meshgrid(jnp.arange(8.0), jnp.arange(8.0), indexing="ij"))
    return jax.vmap(lambda image, by: map_coordinates(image, list(grid - by[:, None, None]), order=1))(images, by)


def logits(weights: Any, images: jax.Array, activation: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The network, `[N, 10]`."""
    return activation(images.reshape(len(images), 64) @ weights["in"]) @ weights["out"]
