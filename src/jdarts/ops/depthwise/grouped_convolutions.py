"""The joint depthwise functions as grouped `lax` convolutions, one for each kind of kernel.

For TPUs, and for kernel gradients in float64 on CPUs. On TPUs every source, target and channel is a group with one input and
one output: as several outputs of a group, targets would lie between the channels in memory, and XLA would copy every result. The
images are written once for each target. A TPU's program of `shifted_products` has more operations and takes longer to compile. No
TPU has confirmed the choice.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jdarts.ops.depthwise.kinds import Kind, Kinds, Pairs, each_kind, images_of
from jdarts.ops.precision import wide_type

_NHWC = ("NHWC", "HWIO", "NHWC")


def forward(pairs: Pairs, *, kinds: Kinds, stride: int) -> jax.Array:
    """Σ over pairs of x `[1 or M, S, B, H, W, C]` and taps `[τ, S, T, C]` → `[M, S, T, B, H', W', C]`."""
    terms = [
        jnp.stack(
            [
                _forward(images_of(x, number), taps[rows], kind=kind, stride=stride)
                for number, kind, rows in each_kind(kinds)
            ]
        )
        for x, taps in pairs
    ]
    return sum(terms[1:], terms[0])


def input_gradient(pairs: Pairs, *, kinds: Kinds, stride: int, height: int, width: int, shared: bool) -> jax.Array:
    """Σ over pairs of y `[M, S, T, B, H', W', C]` and taps `[τ, S, T, C]` → x `[1 or M, S, B, H, W, C]`."""
    terms = []
    for y, taps in pairs:
        rows = [
            _input_gradient(y[number], taps[rows], kind=kind, stride=stride, height=height, width=width)
            for number, kind, rows in each_kind(kinds)
        ]
        terms.append(sum(rows[1:], rows[0])[None] if shared else jnp.stack(rows))
    return sum(terms[1:], terms[0])


def kernel_gradient(pairs: Pairs, *, kinds: Kinds, stride: int) -> jax.Array:
    """Σ over pairs of x `[1 or M, S, B, H, W, C]` and y `[M, S, T, B, H', W', C]` → taps `[τ, S, T, C]`.

    In the form of JAX's own gradient, a convolution with `batch_group_count`.
    """

    def of_kind(x: jax.Array, y: jax.Array, kind: Kind) -> jax.Array:
        taps = jax.ShapeDtypeStruct((kind.taps, *y.shape[:2], y.shape[-1]), x.dtype)
        return jax.linear_transpose(partial(_forward, x, kind=kind, stride=stride), taps)(y)[0]

    terms = [
        jnp.concatenate([of_kind(images_of(x, number), y[number], kind) for number, kind in enumerate(kinds)])
        for x, y in pairs
    ]
    return sum(terms[1:], terms[0])


def kernel_gradient_on_cpu(pairs: Pairs, *, kinds: Kinds, stride: int) -> jax.Array:
    """`kernel_gradient` without batch groups, for which XLA's CPU backend computes all pairs of groups.

    The images of a batch are the features that a group contracts, and y is a kernel as large as an image.
    """
    terms = [
        jnp.concatenate(
            [
                _kernel_gradient_on_cpu(images_of(x, number), y[number], kind=kind, stride=stride)
                for number, kind in enumerate(kinds)
            ]
        )
        for x, y in pairs
    ]
    return sum(terms[1:], terms[0])


def _forward(x: jax.Array, taps: jax.Array, *, kind: Kind, stride: int) -> jax.Array:
    """x `[S, B, H, W, C]` and taps `[k², S, T, C]` → `[S, T, B, H', W', C]`."""
    sources, batch, height, width, channels = x.shape
    targets, pad = taps.shape[2], kind.padding
    images, features = (batch, height, width), sources * targets * channels
    of_targets = jnp.broadcast_to(
        jnp.transpose(x, (1, 2, 3, 0, 4))[:, :, :, :, None], (*images, sources, targets, channels)
    )
    y = lax.conv_general_dilated(
        of_targets.reshape(*images, features),
        taps.reshape(kind.size, kind.size, 1, features),
        window_strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        rhs_dilation=(kind.dilation, kind.dilation),
        dimension_numbers=_NHWC,
        feature_group_count=features,
    )
    y = y.reshape(batch, *y.shape[1:3], sources, targets, channels)
    return jnp.transpose(y, (3, 4, 0, 1, 2, 5))


def _input_gradient(y: jax.Array, taps: jax.Array, *, kind: Kind, stride: int, height: int, width: int) -> jax.Array:
    """y `[S, T, B, H', W', C]` and taps `[k², S, T, C]` → `[S, B, H, W, C]`."""
    sources, targets, batch, height_y, width_y, channels = y.shape
    features, pad = sources * targets * channels, kind.padding

    def padding(extent: int, extent_y: int) -> tuple[int, int]:
        return pad, pad + extent - 1 - (extent_y - 1) * stride

    x = lax.conv_general_dilated(
        jnp.transpose(y, (2, 3, 4, 0, 1, 5)).reshape(batch, height_y, width_y, features),
        lax.rev(taps.reshape(kind.size, kind.size, 1, features), (0, 1)),
        window_strides=(1, 1),
        padding=(padding(height, height_y), padding(width, width_y)),
        lhs_dilation=(stride, stride),
        rhs_dilation=(kind.dilation, kind.dilation),
        dimension_numbers=_NHWC,
        feature_group_count=features,
        preferred_element_type=wide_type(y.dtype),
    )
    # XLA fuses a sum of slices with what follows; a reduction is an operation for itself.
    if sources == 1:
        parts = [x[..., n * channels : (n + 1) * channels] for n in range(targets)]
    else:
        whole = x.reshape(batch, height, width, sources, targets, channels)
        parts = [whole[:, :, :, :, n] for n in range(targets)]
    total = sum(parts[1:], parts[0]).astype(y.dtype).reshape(batch, height, width, sources, channels)
    return jnp.transpose(total, (3, 0, 1, 2, 4))


def _kernel_gradient_on_cpu(x: jax.Array, y: jax.Array, *, kind: Kind, stride: int) -> jax.Array:
    """x `[S, B, H, W, C]` and y `[S, T, B, H', W', C]` → taps `[k², S, T, C]`."""
    sources, batch, height, width, channels = x.shape
    targets, _, height_y, width_y = y.shape[1:5]
    pad = kind.padding

    def padding(extent: int, extent_y: int) -> tuple[int, int]:
        return pad, pad - (extent - 1 - (extent_y - 1) * stride)

    kernels = lax.conv_general_dilated(
        jnp.transpose(x, (2, 3, 0, 4, 1)).reshape(1, height, width, sources * channels * batch),
        jnp.transpose(y, (3, 4, 2, 0, 5, 1)).reshape(height_y, width_y, batch, sources * channels * targets),
        window_strides=(kind.dilation, kind.dilation),
        padding=(padding(height, height_y), padding(width, width_y)),
        rhs_dilation=(stride, stride),
        dimension_numbers=_NHWC,
        feature_group_count=sources * channels,
    )
    return jnp.transpose(kernels.reshape(kind.taps, sources, channels, targets), (0, 1, 3, 2))
