"""The joint depthwise functions as sums over taps of shifted images times taps, one product for each tap.

For CPUs, where a gather is a slow loop. An elementwise loop reads every image once for all taps.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jdarts.ops.depthwise.kinds import Kinds, Pairs, each_kind, images_of
from jdarts.ops.precision import wide_type
from jdarts.ops.route_terms import joined, sum_of


def forward(pairs: Pairs, *, kinds: Kinds, stride: int) -> jax.Array:
    """Σ over pairs of x `[1 or M, S, B, H, W, C]` and taps `[τ, S, T, C]` → `[M, S, T, B, H', W', C]`."""
    outs = []
    for number, kind, rows in each_kind(kinds):
        terms = []
        for x, taps in pairs:
            images = images_of(x, number)
            size = tuple(-(-n // stride) for n in images.shape[2:4])
            padded = _padded(images, 2, kind.padding)
            sources, batch, *others = padded.shape
            shape = (1, sources, taps.shape[2], batch, *others)
            of_targets = lax.broadcast_in_dim(padded, shape, (1, 3, 4, 5, 6))
            factors = _factors(taps[rows], (*shape[1:4], *size, shape[6]))
            for n, (down, right) in enumerate(kind.offsets()):
                start = (down + kind.padding, right + kind.padding)
                terms.append(_shifted(of_targets, 4, start, size, stride) * lax.slice_in_dim(factors, n, n + 1))
        outs.append(sum_of(terms))
    return joined(outs).astype(pairs[0][0].dtype)


def input_gradient(pairs: Pairs, *, kinds: Kinds, stride: int, height: int, width: int, shared: bool) -> jax.Array:
    """Σ over pairs of y `[M, S, T, B, H', W', C]` and taps `[τ, S, T, C]` → x `[1 or M, S, B, H, W, C]`."""
    outs = []
    for number, kind, rows in each_kind(kinds):
        terms = []
        for y, taps in pairs:
            padded = _padded(y[number : number + 1], 4, kind.padding, stride, (height, width))
            factors = _factors(taps[rows], (*y.shape[1:4], height, width, y.shape[6]))
            for n, (down, right) in enumerate(kind.offsets()):
                start = (kind.padding - down, kind.padding - right)
                terms.append(_shifted(padded, 4, start, (height, width), 1) * lax.slice_in_dim(factors, n, n + 1))
        total = sum_of(terms)
        outs.append(jnp.squeeze(total, 2) if total.shape[2] == 1 else jnp.sum(total, axis=2))
    return (sum_of(outs) if shared else joined(outs)).astype(pairs[0][0].dtype)


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
            rows.append(jnp.sum(sum_of(products), axis=(2, 3, 4)))
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


def _factors(taps: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Taps `[k², S, T, C]` for every pixel, `[k², S, T, B, H, W, C]`, in the wide type.

    One operation for all taps, since each operation of a tap counts: a program has thousands of taps. XLA stores no such array.
    """
    return lax.broadcast_in_dim(taps.astype(wide_type(taps.dtype)), (taps.shape[0], *shape), (0, 1, 2, 6))
