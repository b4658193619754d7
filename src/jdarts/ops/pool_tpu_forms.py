"""Pools of 3×3 windows for TPUs, in as few operations as XLA makes of them there; see `pool` for the functions.

No TPU has confirmed that they are quick; the compiler shows the number of operations. On CPUs without native functions the
maximum and what moves back along it are one kernel each, up to four times as fast as one axis after the other.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jdarts.ops.pool_windows import WINDOW, shares_of_pixels
from jdarts.ops.precision import wide_type


def max_pool(x: jax.Array, *, stride: int) -> tuple[jax.Array, jax.Array]:
    """The largest pixel of every window and its place: all nine pixels of a window in turn.

    One axis after the other is two passes, and each pass two operations.

    Args:
      x: `[S, B, H, W, C]`.
      stride: 1 or 2.
    """
    padded = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), [(0, 0, 0), (0, 0, 0), (1, 1, 0), (1, 1, 0), (0, 0, 0)])
    ends = [(size - 1) // stride * stride + 1 for size in x.shape[2:4]]

    def pixel(i: int, j: int) -> jax.Array:
        start, end = (0, 0, i, j, 0), (*x.shape[:2], i + ends[0], j + ends[1], x.shape[4])
        return lax.slice(padded, start, end, (1, 1, stride, stride, 1))

    best = pixel(0, 0)
    # The first place inside the image: where all pixels are −∞, no other wins.
    is_first = [lax.broadcasted_iota(jnp.int32, best.shape, axis) == 0 for axis in (2, 3)]
    place = jnp.where(is_first[0], jnp.uint8(WINDOW), jnp.uint8(0)) + jnp.where(is_first[1], jnp.uint8(1), jnp.uint8(0))
    for i, j in itertools.product(range(WINDOW), repeat=2):
        value = pixel(i, j)
        wins = (value > best) | (value != value)
        best, place = jnp.where(wins, value, best), jnp.where(wins, jnp.uint8(WINDOW * i + j), place)
    return best, place


def pool_scatter(y: jax.Array, places: jax.Array, *, stride: int, height: int, width: int) -> jax.Array:
    """For every pixel the sum of y over the windows whose place it is.

    XLA fuses the slices that a sum reads, and writes those that a transpose adds up.

    Args:
      y: `[S, B, H', W', C]`.
      places: of the windows, in row order.
      stride: 1 or 2.
      height: of the images.
      width: of the images.
    """
    values, chosen = (_at_centres(each, stride, height, width, border=1) for each in (y, places))
    total = jnp.zeros((*y.shape[:2], height, width, y.shape[4]), y.dtype)
    for place, (i, j) in enumerate(np.ndindex(WINDOW, WINDOW)):
        start = (0, 0, WINDOW - 1 - i, WINDOW - 1 - j, 0)
        end = (*y.shape[:2], start[2] + height, start[3] + width, y.shape[4])
        here = lax.slice(chosen, start, end) == jnp.uint8(place)
        total = total + jnp.where(here, lax.slice(values, start, end), jnp.zeros((), y.dtype))
    return total


def avg_pool(x: jax.Array, *, stride: int) -> jax.Array:
    """The mean over the pixels of every window that lie inside the image.

    XLA fuses the sum with what follows. A convolution is an operation for itself, and reads its images in another order.

    Args:
      x: `[S, B, H, W, C]`.
      stride: 1 or 2.
    """
    sums = _sums_of_neighbours(x.astype(wide_type(x.dtype)))[:, :, ::stride, ::stride]
    return (sums * shares_of_pixels(x.shape[2], x.shape[3], stride, sums.dtype)).astype(x.dtype)


def avg_pool_back(y: jax.Array, *, stride: int, height: int, width: int) -> jax.Array:
    """The transpose of `avg_pool`: for every pixel the sum of y over its windows, each divided by the window's pixels.

    Args:
      y: `[S, B, H', W', C]`.
      stride: 1 or 2.
      height: of the images.
      width: of the images.
    """
    wide = wide_type(y.dtype)
    each = y.astype(wide) * shares_of_pixels(height, width, stride, wide)
    return _sums_of_neighbours(_at_centres(each, stride, height, width, border=0)).astype(y.dtype)


def _at_centres(windows: jax.Array, stride: int, height: int, width: int, *, border: int) -> jax.Array:
    """Numbers of windows at the windows' centres, and zeros everywhere else and on a border around the image."""
    pads = [(0, 0, 0)] * windows.ndim
    for axis, size in ((2, height), (3, width)):
        pads[axis] = (border, size - 1 - (windows.shape[axis] - 1) * stride + border, stride - 1)
    return lax.pad(windows, jnp.zeros((), windows.dtype), pads)


def _sums_of_neighbours(x: jax.Array) -> jax.Array:
    """For every pixel the sum over the 3×3 pixels around it, one axis after the other; outside the image are zeros."""
    for axis in (2, 3):
        before, after = (
            lax.pad(x, jnp.zeros((), x.dtype), [(by, -by, 0) if a == axis else (0, 0, 0) for a in range(x.ndim)])
            for by in (1, -1)
        )
        x = before + x + after
    return x
