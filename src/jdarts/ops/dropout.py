"""Dropout of single numbers of feature maps, at the cost of reading them.

A draw of `jax.random` for every number takes a CPU longer than the operations of a search cell. Here a number is dropped by a
hash of its place and of 64 bits of the key: two rounds of a mixing function of 32 bits, which XLA computes in one loop with
the product.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jdarts.parallel import device_count, share_offset

#: Shifts and odd factors with which every bit of the input changes every bit of the result in about half of all cases.
_ROUND = ((16, 0x7FEB352D), (15, 0x846CA68B))
_GOLDEN = 0x9E3779B9


def dropout(
    key: jax.Array, x: jax.Array, probability: float | jax.Array, *, axis: int = 0, axis_name: str | None = None
) -> jax.Array:
    """Sets numbers to 0 with a probability, and divides the others by the probability to keep them.

    Args:
      key: random key.
      x: an array of less than 2³² numbers, on all devices together.
      probability: from 0 to below 1, a number or a scalar array. It is met to 2⁻²⁴.
      axis: the axis of the images.
      axis_name: a mapped axis over which the images are spread. What is dropped of an image does not depend on the number of
        devices, if they have one key.

    Returns:
      An array like x.
    """
    keep = 1 - jnp.asarray(probability, x.dtype if x.dtype == jnp.float64 else jnp.float32)
    seeds = jax.random.bits(key, (2,), jnp.uint32)
    places = _places(x, axis, axis_name).reshape(x.shape)
    bits = _mixed(_mixed(places * jnp.uint32(_GOLDEN) + seeds[0]) ^ seeds[1])
    # 24 bits, which float32 holds exactly.
    is_kept = (bits >> 8).astype(keep.dtype) < keep * 2**24
    return jnp.where(is_kept, x * (1 / keep).astype(x.dtype), jnp.zeros((), x.dtype))


def _places(x: jax.Array, axis: int, axis_name: str | None) -> jax.Array:
    """The places of numbers in the array of all devices, in the order of those of this device; uint32 `[size]`."""
    places = lax.iota(jnp.uint32, x.size)
    if (devices := device_count(axis_name)) == 1:
        return places
    after = math.prod(x.shape[axis + 1 :])
    block = x.shape[axis] * after
    start = jnp.uint32(after) * jnp.asarray(share_offset(x.shape[axis], axis_name), jnp.uint32)
    return places + places // jnp.uint32(block) * jnp.uint32(block * (devices - 1)) + start


def _mixed(bits: jax.Array) -> jax.Array:
    for shift, factor in _ROUND:
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    return bits ^ (bits >> 16)
