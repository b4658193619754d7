"""The windows of 3×3 pools, whose centres are pixels of the image."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

WINDOW = 3


def shares_of_pixels(height: int, width: int, stride: int, dtype: Any) -> jax.Array:
    """One divided by the pixels inside the image for every window, `[1, 1, H', W', 1]`.

    Args:
      height: of the image.
      width: of the image.
      stride: of the windows.
      dtype: of the result.
    """
    shares = np.outer(1 / _counts(height, stride), 1 / _counts(width, stride))
    return jnp.asarray(shares[None, None, :, :, None], dtype)


def _counts(size: int, stride: int) -> np.ndarray:
    """Pixels inside the image for each window position along one axis."""
    centres = np.arange(0, size, stride)
    return np.minimum(centres + 1, size - 1) - np.maximum(centres - 1, 0) + 1
