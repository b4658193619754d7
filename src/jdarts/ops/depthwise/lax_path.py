"""The three depthwise functions as grouped `lax` convolutions, for every backend and floating type.

Sources S and channels C become S·C groups of one convolution; the T targets are the outputs (or inputs) of a
group.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

_NHWC = ("NHWC", "HWIO", "NHWC")


def forward(x: jax.Array, kernels: jax.Array, *, stride: int, dilation: int) -> jax.Array:
    """Depthwise convolution: x [S, B, H, W, C], kernels [S, T, k, k, C] → y [S, T, B, H', W', C]."""
    sources, targets, size, _, channels = kernels.shape
    _, batch, height, width, _ = x.shape
    pad = dilation * (size - 1) // 2
    y = lax.conv_general_dilated(
        jnp.transpose(x, (1, 2, 3, 0, 4)).reshape(batch, height, width, sources * channels),
        jnp.transpose(kernels, (2, 3, 0, 4, 1)).reshape(size, size, 1, sources * channels * targets),
        window_strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=_NHWC,
        feature_group_count=sources * channels,
    )
    y = y.reshape(batch, y.shape[1], y.shape[2], sources, channels, targets)
    return jnp.transpose(y, (3, 5, 0, 1, 2, 4))


def input_gradient(
    y: jax.Array, kernels: jax.Array, *, stride: int, dilation: int, height: int, width: int
) -> jax.Array:
    """Transpose of `forward` in x: y [S, T, B, H', W', C], kernels [S, T, k, k, C] → x [S, B, H, W, C]."""
    sources, targets, size, _, channels = kernels.shape
    batch = y.shape[2]
    pad = dilation * (size - 1) // 2

    def padding(extent: int, extent_y: int) -> tuple[int, int]:
        return pad, pad + extent - 1 - (extent_y - 1) * stride

    x = lax.conv_general_dilated(
        jnp.transpose(y, (2, 3, 4, 0, 5, 1)).reshape(*y.shape[2:5], sources * channels * targets),
        jnp.transpose(kernels[:, :, ::-1, ::-1], (2, 3, 1, 0, 4)).reshape(size, size, targets, sources * channels),
        window_strides=(1, 1),
        padding=(padding(height, y.shape[3]), padding(width, y.shape[4])),
        lhs_dilation=(stride, stride),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=_NHWC,
        feature_group_count=sources * channels,
    )
    return jnp.transpose(x.reshape(batch, height, width, sources, channels), (3, 0, 1, 2, 4))


def kernel_gradient(x: jax.Array, y: jax.Array, *, stride: int, dilation: int, size: int) -> jax.Array:
    """Transpose of `forward` in kernels: x [S, B, H, W, C], y [S, T, B, H', W', C] → kernels [S, T, k, k, C].

    In the form of JAX's own gradient, a convolution with `batch_group_count`: the one that XLA's GPU backend
    knows as cuDNN's filter gradient.
    """
    kernels = jax.ShapeDtypeStruct((*y.shape[:2], size, size, y.shape[-1]), x.dtype)
    return jax.linear_transpose(partial(forward, x, stride=stride, dilation=dilation), kernels)(y)[0]


def kernel_gradient_on_cpu(x: jax.Array, y: jax.Array, *, stride: int, dilation: int, size: int) -> jax.Array:
    """`kernel_gradient` without batch groups, for which XLA's CPU backend computes all pairs of groups."""
    sources, batch, height, width, channels = x.shape
    targets, _, height_y, width_y = y.shape[1:5]
    pad = dilation * (size - 1) // 2

    def padding(extent: int, extent_y: int) -> tuple[int, int]:
        return pad, pad - (extent - 1 - (extent_y - 1) * stride)

    # The images are the contracted features of a group, and y is a kernel as large as the image.
    kernels = lax.conv_general_dilated(
        jnp.transpose(x, (2, 3, 0, 4, 1)).reshape(1, height, width, sources * channels * batch),
        jnp.transpose(y, (3, 4, 2, 0, 5, 1)).reshape(height_y, width_y, batch, sources * channels * targets),
        window_strides=(dilation, dilation),
        padding=(padding(height, height_y), padding(width, width_y)),
        rhs_dilation=(stride, stride),
        dimension_numbers=_NHWC,
        feature_group_count=sources * channels,
    )
    return jnp.transpose(kernels.reshape(size, size, sources, channels, targets), (2, 4, 0, 1, 3))
