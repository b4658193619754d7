"""The kernel gradient of depthwise convolutions as grouped `lax` convolutions, one for each kind of kernel: fastest on CPUs.

Sources S and channels C are the groups, and the T targets are the outputs of a group. The images of a batch are the features
that a group contracts, and y is a kernel as large as an image. In the form of JAX's own gradient, with `batch_group_count`, XLA
computes all pairs of groups on a CPU.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jdarts.ops.depthwise.kinds import Kind, Kinds, Pairs


def kernel_gradient(pairs: Pairs, *, kinds: Kinds, stride: int) -> jax.Array:
    """Σ over pairs of x `[1 or M, S, B, H, W, C]` and y `[M, S, T, B, H', W', C]` → taps `[τ, S, T, C]`."""
    terms = [
        jnp.concatenate(
            [
                _of_kind(x[number if x.shape[0] > 1 else 0], y[number], kind=kind, stride=stride)
                for number, kind in enumerate(kinds)
            ]
        )
        for x, y in pairs
    ]
    return sum(terms[1:], terms[0])


def _of_kind(x: jax.Array, y: jax.Array, *, kind: Kind, stride: int) -> jax.Array:
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
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=sources * channels,
    )
    return jnp.transpose(kernels.reshape(kind.taps, sources, channels, targets), (0, 1, 3, 2))
