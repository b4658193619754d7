"""The joint depthwise functions with the taps as an axis: a gather reads the window of every tap, and a reduction sums them.

For GPUs, where XLA fuses gather, product and sum into one kernel that writes the result alone, a few lines to compile whatever
the number of taps is. The compiler for an H100 makes one kernel of each function, and two of a kernel gradient over many pixels.
No device has confirmed the choice.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jdarts.ops.depthwise.kinds import Kinds, Pairs, runs
from jdarts.ops.precision import wide_type
from jdarts.ops.route_terms import joined, sum_of


def forward(pairs: Pairs, *, kinds: Kinds, stride: int) -> jax.Array:
    """Σ over pairs of x `[1 or M, S, B, H, W, C]` and taps `[τ, S, T, C]` → `[M, S, T, B, H', W', C]`."""
    parts = []
    for numbers, rows in runs(kinds):
        terms = []
        for x, taps in pairs:
            places = _places(kinds, numbers, own=x.shape[0] > 1)
            of_taps = _windows(x, places, 3, tuple(-(-n // stride) for n in x.shape[3:5]), stride)
            of_taps = of_taps.reshape(len(numbers), -1, of_taps.shape[1], 1, *of_taps.shape[2:])
            terms.append(of_taps * _factors(taps[rows], len(numbers)))
        parts.append(jnp.sum(sum_of(terms), axis=1))
    return joined(parts).astype(pairs[0][0].dtype)


def input_gradient(pairs: Pairs, *, kinds: Kinds, stride: int, height: int, width: int, shared: bool) -> jax.Array:
    """Σ over pairs of y `[M, S, T, B, H', W', C]` and taps `[τ, S, T, C]` → x `[1 or M, S, B, H, W, C]`."""
    parts = []
    groups = [(range(len(kinds)), slice(None))] if shared else runs(kinds)
    for numbers, rows in groups:
        terms = []
        for y, taps in pairs:
            places = _places(kinds, numbers, own=True, sign=-1)
            of_taps = _windows(_spread(y, 4, stride, (height, width)), places, 4, (height, width), 1)
            count = 1 if shared else len(numbers)
            terms.append(of_taps.reshape(count, -1, *of_taps.shape[1:]) * _factors(taps[rows], count))
        parts.append(jnp.sum(sum_of(terms), axis=(1, 3)))
    return joined(parts).astype(pairs[0][0].dtype)


def kernel_gradient(pairs: Pairs, *, kinds: Kinds, stride: int) -> jax.Array:
    """Σ over pairs of x `[1 or M, S, B, H, W, C]` and y `[M, S, T, B, H', W', C]` → taps `[τ, S, T, C]`."""
    numbers = range(len(kinds))
    kind_of_tap = np.repeat(np.arange(len(kinds)), [kind.taps for kind in kinds])
    terms = []
    for x, y in pairs:
        of_taps = _windows(x, _places(kinds, numbers, own=x.shape[0] > 1), 3, y.shape[4:6], stride)
        ys = y.astype(of_taps.dtype)
        terms.append(of_taps[:, :, None] * (ys if len(kinds) == 1 else jnp.take(ys, kind_of_tap, axis=0, mode="clip")))
    return jnp.sum(sum_of(terms), axis=(3, 4, 5)).astype(pairs[0][0].dtype)


def _places(kinds: Kinds, numbers: range, *, own: bool, sign: int = 1) -> np.ndarray:
    """For every tap the row of the images that it reads, and its offset in pixels."""
    return np.array(
        [
            (number if own else 0, sign * down, sign * right)
            for number in numbers
            for down, right in kinds[number].offsets()
        ]
    )


def _windows(images: jax.Array, places: np.ndarray, axis: int, size: tuple[int, ...], stride: int) -> jax.Array:
    """What every tap reads, in the wide type: `[τ, …, *size, C]` of images `[rows, …, H, W, C]` with H at an axis."""
    padding = int(np.abs(places[:, 1:]).max())
    padded = lax.pad(images, jnp.zeros((), images.dtype), _padding(images.ndim, axis, (padding, padding, 0)))
    window = [1, *images.shape[1:]]
    window[axis : axis + 2] = [(count - 1) * stride + 1 for count in size]
    numbers = lax.GatherDimensionNumbers(
        offset_dims=tuple(range(1, images.ndim)), collapsed_slice_dims=(0,), start_index_map=(0, axis, axis + 1)
    )
    starts = jnp.asarray(places + np.array([0, padding, padding]), jnp.int32)
    found = lax.gather(padded, starts, numbers, window, mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS)
    if stride > 1:
        found = lax.slice(
            found,
            (0,) * found.ndim,
            found.shape,
            tuple(stride if n in (axis, axis + 1) else 1 for n in range(found.ndim)),
        )
    return found.astype(wide_type(images.dtype))


def _padding(ndim: int, axis: int, of_image: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    return [of_image if n in (axis, axis + 1) else (0, 0, 0) for n in range(ndim)]


def _spread(y: jax.Array, axis: int, stride: int, size: tuple[int, int]) -> jax.Array:
    """Images with their pixels `stride` apart and zeros between and after them."""
    padding = _padding(y.ndim, axis, (0, 0, 0))
    for n, whole in enumerate(size):
        padding[axis + n] = (0, whole - (y.shape[axis + n] - 1) * stride - 1, stride - 1)
    return lax.pad(y, jnp.zeros((), y.dtype), padding)


def _factors(taps: jax.Array, kinds: int) -> jax.Array:
    """Taps `[n · k², S, T, C]` as `[n, k², S, T, 1, 1, 1, C]`, in the wide type."""
    taps = taps.reshape(kinds, -1, *taps.shape[1:3], 1, 1, 1, taps.shape[3])
    return taps.astype(wide_type(taps.dtype))
