"""The joint depthwise functions as sums over taps of shifted images times taps, one operation for each tap.

For CPUs, where a gather is a slow loop. An elementwise loop reads every image once for all taps.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jdarts.ops.depthwise.kinds import Kinds, Pairs, each_kind, images_of
from jdarts.ops.precision import wide_type


def forward(pairs: Pairs, *, kinds: Kinds, stride: int) -> jax.Array:
    """Σ over pairs of x `[1 or M, S, B, H, W, C]` and taps `[τ, S, T, C]` → `[M, S, T, B, H', W', C]`."""
    outs = []
    for number, kind, rows in each_kind(kinds):
        terms = []
        for x, taps in pairs:
            images = images_of(x, number)
            size = tuple(-(-n // stride) for n in images.shape[2:4])
            shape = (images.shape[0], taps.shape[2], images.shape[1], *size, images.shape[4])
            # One target needs no broadcast. Each operation of a tap counts: a program has thousands of taps.
            alone = shape[1] == 1
            axis = 3 if alone else 2
            padded = _padded(images[:, None] if alone else images, axis, kind.padding)
            for n, (down, right) in enumerate(kind.offsets()):
                start = (down + kind.padding, right + kind.padding)
                shifted = _shifted(padded, axis, start, size, stride)
                of_targets = shifted if alone else lax.broadcast_in_dim(shifted, shape, (0, 2, 3, 4, 5))
                terms.append(of_targets * _factor(taps, rows.start + n, shape))
        outs.append(_sum(terms))
    return jnp.stack(outs).astype(pairs[0][0].dtype)


def input_gradient(pairs: Pairs, *, kinds: Kinds, stride: int, height: int, width: int, shared: bool) -> jax.Array:
    """Σ over pairs of y `[M, S, T, B, H', W', C]` and taps `[τ, S, T, C]` → x `[1 or M, S, B, H, W, C]`."""
    outs = []
    for number, kind, rows in each_kind(kinds):
        terms = []
        for y, taps in pairs:
            padded = _padded(y[number], 3, kind.padding, stride, (height, width))
            for n, (down, right) in enumerate(kind.offsets()):
                start = (kind.padding - down, kind.padding - right)
                shifted = _shifted(padded, 3, start, (height, width), 1)
                terms.append(shifted * _factor(taps, rows.start + n, shifted.shape))
        total = _sum(terms)
        outs.append(jnp.squeeze(total, 1) if total.shape[1] == 1 else jnp.sum(total, axis=1))
    return (_sum(outs)[None] if shared else jnp.stack(outs)).astype(pairs[0][0].dtype)


def kernel_gradient(pairs: Pairs, *, kinds: Kinds, stride: int) -> jax.Array:
    """Σ over pairs of x `[1 or M, S, B, H, W, C]` and y `[M, S, T, B, H', W', C]` → taps `[τ, S, T, C]`."""
    rows = []
    for number, kind in enumerate(kinds):
        images = [
            (_padded(images_of(x, number), 2, kind.padding), y[number].astype(wide_type(y.dtype))) for x, y in pairs
        ]
        for down, right in kind.offsets():
            start = (down + kind.padding, right + kind.padding)
            products = [_shifted(x, 2, start, y.shape[3:5], stride)[:, None] * y for x, y in images]
            rows.append(jnp.sum(_sum(products), axis=(2, 3, 4)))
    return jnp.stack(rows).astype(pairs[0][0].dtype)


def _padded(
    images: jax.Array, axis: int, padding: int, stride: int = 1, size: tuple[int, int] | None = None
) -> jax.Array:
    """Images in the wide type with zeros around them; for a size, with their pixels `stride` apart in images of it."""
    config = [(0, 0, 0)] * images.ndim
    for n in (axis, axis + 1):
        whole = images.shape[n] if size is None else size[n - axis]
        config[n] = (padding, padding + whole - (images.shape[n] - 1) * stride - 1, stride - 1)
    wide = images.astype(wide_type(images.dtype))
    return lax.pad(wide, jnp.zeros((), wide.dtype), config)


def _shifted(images: jax.Array, axis: int, start: tuple[int, int], size: tuple[int, ...], stride: int) -> jax.Array:
    starts, limits, strides = [0] * images.ndim, list(images.shape), [1] * images.ndim
    for n, first in enumerate(start):
        starts[axis + n], limits[axis + n] = first, first + (size[n] - 1) * stride + 1
        strides[axis + n] = stride
    return lax.slice(images, starts, limits, strides)


def _factor(taps: jax.Array, number: int, shape: tuple[int, ...]) -> jax.Array:
    """A tap of the table `[τ, S, T, C]` for every pixel, `[S, T, B, H, W, C]`, in the wide type."""
    tap = lax.index_in_dim(taps, number, keepdims=False).astype(wide_type(taps.dtype))
    return lax.broadcast_in_dim(tap, shape, (0, 1, 5))


def _sum(terms: Sequence[jax.Array]) -> jax.Array:
    return sum(terms[1:], terms[0])
