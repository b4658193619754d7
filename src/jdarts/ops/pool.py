"""3×3 pools as separable maxima and sums of shifted slices (padding 1)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

WINDOW = 3


def max_pool_3x3(x: jax.Array, *, stride: int = 1) -> jax.Array:
    """Maximum over 3×3 windows, padding 1 with −∞; among equals the first in row order gets the gradient.

    Args:
      x: `[…, H, W, C]`.
      stride: 1 or 2.

    Returns:
      `[…, H', W', C]` with `H' = ceil(H / stride)`.
    """
    for axis in (x.ndim - 2, x.ndim - 3):
        first, *others = _shifted(x, axis, stride, padding=-jnp.inf)
        for other in others:
            # Not jnp.maximum, which splits the gradient among equals; a NaN must win as it does there.
            first = jnp.where((first >= other) | jnp.isnan(first), first, other)
        x = first
    return x


def avg_pool_3x3(x: jax.Array, *, stride: int = 1) -> jax.Array:
    """Mean over the pixels of 3×3 windows that lie inside the image (`count_include_pad=False`).

    Args:
      x: `[…, H, W, C]`.
      stride: 1 or 2.

    Returns:
      `[…, H', W', C]` with `H' = ceil(H / stride)`.
    """
    height, width = x.shape[-3:-1]
    for axis in (x.ndim - 2, x.ndim - 3):
        x = sum(_shifted(x, axis, stride, padding=0.0))
    counts = np.outer(_counts(height, stride), _counts(width, stride))[..., None]
    return x * jnp.asarray(np.broadcast_to(1.0 / counts, x.shape[-3:]), x.dtype).reshape(
        (1,) * (x.ndim - 3) + x.shape[-3:-1] + (x.shape[-1],)
    )


def _shifted(x: jax.Array, axis: int, stride: int, padding: float) -> list[jax.Array]:
    """The three slices of the padded axis that a window of 3 reads, first to last."""
    size = x.shape[axis]
    padded = lax.pad(x, jnp.asarray(padding, x.dtype), [(1, 1, 0) if a == axis else (0, 0, 0) for a in range(x.ndim)])
    last = (size - 1) // stride * stride
    return [lax.slice_in_dim(padded, offset, offset + last + 1, stride=stride, axis=axis) for offset in range(WINDOW)]


def _counts(size: int, stride: int) -> np.ndarray:
    """Pixels inside the image for each window position along one axis."""
    centres = np.arange(0, size, stride)
    return np.minimum(centres + 1, size - 1) - np.maximum(centres - 1, 0) + 1
