"""Depthwise convolution of stacked sources with several kernels each, differentiable to every order."""

import jax
import numpy as np

from jdarts.ops.depthwise import primitives

__all__ = ["depthwise_conv"]


def depthwise_conv(
    x: jax.Array | np.ndarray,
    kernels: jax.Array | np.ndarray,
    *,
    stride: int = 1,
    dilation: int = 1,
    rectified: bool = False,
) -> jax.Array:
    """Convolves every source with each of its kernels, channel by channel.

    y[s, t] is the depthwise cross-correlation of x[s] with kernels[s, t], with zeros for dilation·(k-1)/2
    pixels around the image on every side (PyTorch's padding; XLA's "SAME" differs at stride 2).

    A native function computes it on CPUs, for float32 and float64, and on NVIDIA's GPUs, for bfloat16 too. The machine's C++
    compiler (`$CXX`, or c++, g++, clang++) builds it on first use, for GPUs with CUDA's run-time compiler, and
    `$XDG_CACHE_HOME/jdarts` (`~/.cache/jdarts`) keeps it. Without a compiler, for other types, on other devices, or with
    `JDARTS_NATIVE=0` in the environment when a function is lowered, operations of XLA compute it (`choice`). `JDARTS_DEPTHWISE`
    names another form.

    Args:
        x: Images [S, B, H, W, C].
        kernels: [S, T, k, k, C], k odd, of the same floating type as x.
        stride: 1 or 2.
        dilation: 1 or 2.
        rectified: Whether the ReLU of x is convolved; it costs no memory and next to no time.

    Returns:
        y [S, T, B, H', W', C] with H' = ceil(H / stride), W' = ceil(W / stride).

    Raises:
        InputError: if shapes, types, stride or dilation do not fit.
    """
    return primitives.forward(x, kernels, gate=x if rectified else None, stride=stride, dilation=dilation)
