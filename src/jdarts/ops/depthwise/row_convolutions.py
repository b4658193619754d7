"""The joint depthwise kernel gradient as convolutions along rows, for CPUs without native functions.

XLA's CPU backend sums products of pixels well in a convolution with many features alone: it fills its vectors with them. So the
columns of a feature map are features. A group is a source and a channel; it contracts the images of a batch, and has a result for
every target, column of x and column of y. The pairs of columns of each tap are then added up. The others are computed in
vain: with maps of 32 columns, a 5×5 kernel needs 5 products of 32. In float64 XLA computes every convolution by a plain loop, and
`grouped_convolutions` have the fewest products.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jdarts.ops.depthwise import grouped_convolutions
from jdarts.ops.depthwise.kinds import Kind, Kinds, Pairs, images_of
from jdarts.ops.precision import wide_type
from jdarts.ops.route_terms import joined, sum_of

#: More columns of y are split into blocks of at most so many, to which fewer columns of x belong.
_COLUMNS = 32


def kernel_gradient(pairs: Pairs, *, kinds: Kinds, stride: int) -> jax.Array:
    """Σ over pairs of x `[1 or M, S, B, H, W, C]` and y `[M, S, T, B, H', W', C]` → taps `[τ, S, T, C]`."""
    if pairs[0][0].dtype == jnp.float64:
        return grouped_convolutions.kernel_gradient_on_cpu(pairs, kinds=kinds, stride=stride)
    terms = []
    for x, y in pairs:
        parts = [
            _of_kind(images_of(x, number), y[number], kind=kind, stride=stride) for number, kind in enumerate(kinds)
        ]
        terms.append(joined(parts))
    return sum_of(terms)


def _of_kind(x: jax.Array, y: jax.Array, *, kind: Kind, stride: int) -> jax.Array:
    """x `[S, B, H, W, C]` and y `[S, T, B, H', W', C]` → taps `[k², S, T, C]`."""
    height, pad, wide = x.shape[2], kind.padding, wide_type(x.dtype)
    y = _in_blocks(y)
    sources, targets, batch, height_y, blocks, columns_y, channels = y.shape
    x, first = _windows(x, blocks, columns_y, kind, stride)
    columns = x.shape[4]
    products = lax.conv_general_dilated(
        jnp.transpose(x, (4, 2, 0, 5, 1, 3)).reshape(columns, height, -1),
        jnp.transpose(y, (3, 2, 4, 0, 6, 1, 5)).reshape(height_y, batch * blocks, -1),
        window_strides=(kind.dilation,),
        padding=((pad, pad - (height - 1 - (height_y - 1) * stride)),),
        rhs_dilation=(stride,),
        dimension_numbers=("NHC", "HIO", "NHC"),
        feature_group_count=sources * channels,
        preferred_element_type=wide,
    )
    products = products.reshape(columns, kind.size, sources * channels * targets, columns_y)
    chosen = jnp.asarray(_pairs_of_columns(columns, columns_y, first, kind, stride), wide)
    taps = jnp.einsum("uinw,juw->ijn", products, chosen, precision="highest")
    return jnp.transpose(taps.reshape(kind.taps, sources, channels, targets), (0, 1, 3, 2)).astype(y.dtype)


def _in_blocks(y: jax.Array) -> jax.Array:
    """`[…, W', C]` as equal blocks of columns `[…, blocks, columns, C]`, with zeros after the last column."""
    width = y.shape[-2]
    blocks = -(-width // _COLUMNS)
    columns = -(-width // blocks)
    if blocks * columns > width:
        y = jnp.pad(y, [(0, 0)] * (y.ndim - 2) + [(0, blocks * columns - width), (0, 0)])
    return y.reshape(*y.shape[:-2], blocks, columns, y.shape[-1])


def _windows(x: jax.Array, blocks: int, columns_y: int, kind: Kind, stride: int) -> tuple[jax.Array, int]:
    """The columns of x `[S, B, H, W, C]` that each block of y reads, `[S, B, H, blocks, columns, C]`.

    Also the column at which the first tap of the first column of y is.
    """
    if blocks == 1:
        return x[:, :, :, None], -kind.padding
    step, columns = columns_y * stride, (columns_y - 1) * stride + 2 * kind.padding + 1
    after = max(0, (blocks - 1) * step + columns - kind.padding - x.shape[3])
    padded = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (kind.padding, after), (0, 0)))
    return jnp.stack([padded[:, :, :, n * step : n * step + columns] for n in range(blocks)], axis=3), 0


def _pairs_of_columns(columns: int, columns_y: int, first: int, kind: Kind, stride: int) -> np.ndarray:
    """For each column of taps one where a column of x belongs to one of y, else zero, `[k, columns of x, columns of y]`."""
    distances = np.arange(columns)[:, None] - stride * np.arange(columns_y)
    return np.stack([distances == first + n * kind.dilation for n in range(kind.size)])
