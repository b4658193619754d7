"""The joint depthwise functions as one function for each kind of kernel, in the forms that have such functions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jdarts.ops.depthwise.kinds import Kinds, Pairs, each_kind, images_of

#: A function of the terms of one kind, the kind, the stride, the images' size where it makes images, and whether to interpret it.
OfKind = Callable[..., jax.Array]


def forward(of_kind: OfKind, pairs: Pairs, *, kinds: Kinds, stride: int, interpret: bool) -> jax.Array:
    """Σ over pairs of x `[1 or M, S, B, H, W, C]` and taps `[τ, S, T, C]` → `[M, S, T, B, H', W', C]`."""
    return jnp.stack(
        [
            of_kind([(images_of(x, number), taps[rows]) for x, taps in pairs], kind, stride, interpret)
            for number, kind, rows in each_kind(kinds)
        ]
    )


def input_gradient(
    of_kind: OfKind,
    pairs: Pairs,
    *,
    kinds: Kinds,
    stride: int,
    height: int,
    width: int,
    shared: bool,
    interpret: bool,
) -> jax.Array:
    """Σ over pairs of y `[M, S, T, B, H', W', C]` and taps `[τ, S, T, C]` → x `[1 or M, S, B, H, W, C]`."""
    found = [
        of_kind([(y[number], taps[rows]) for y, taps in pairs], kind, stride, (height, width), interpret)
        for number, kind, rows in each_kind(kinds)
    ]
    return sum(found[1:], found[0])[None] if shared else jnp.stack(found)


def kernel_gradient(of_kind: OfKind, pairs: Pairs, *, kinds: Kinds, stride: int, interpret: bool) -> jax.Array:
    """Σ over pairs of x `[1 or M, S, B, H, W, C]` and y `[M, S, T, B, H', W', C]` → taps `[τ, S, T, C]`."""
    return jnp.concatenate(
        [
            of_kind([(images_of(x, number), y[number]) for x, y in pairs], kind, stride, interpret)
            for number, kind in enumerate(kinds)
        ]
    )
