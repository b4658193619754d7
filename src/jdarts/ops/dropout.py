"""Dropout of single numbers of feature maps, at the cost of reading them.

A draw of `jax.random` for every number takes a CPU longer than the operations of a search cell. Here a number is dropped by a
hash of its place and of 64 bits of the key: two rounds of a mixing function of 32 bits, which XLA computes in one loop with
the product.
"""

import jax
import jax.numpy as jnp
from jax import lax

#: Shifts and odd factors with which every bit of the input changes every bit of the result in about half of all cases.
_ROUND = ((16, 0x7FEB352D), (15, 0x846CA68B))
_GOLDEN = 0x9E3779B9


def dropout(key: jax.Array, x: jax.Array, probability: float | jax.Array) -> jax.Array:
    """Sets numbers to 0 with a probability, and divides the others by the probability to keep them.

    Args:
      key: random key.
      x: an array of less than 2³² numbers.
      probability: from 0 to below 1, a number or a scalar array. It is met to 2⁻²⁴.

    Returns:
      An array like x.
    """
    keep = 1 - jnp.asarray(probability, x.dtype if x.dtype == jnp.float64 else jnp.float32)
    seeds = jax.random.bits(key, (2,), jnp.uint32)
    places = lax.iota(jnp.uint32, x.size).reshape(x.shape)
    bits = _mixed(_mixed(places * jnp.uint32(_GOLDEN) + seeds[0]) ^ seeds[1])
    # 24 bits, which float32 holds exactly.
    is_kept = (bits >> 8).astype(keep.dtype) < keep * 2**24
    return jnp.where(is_kept, x * (1 / keep).astype(x.dtype), jnp.zeros((), x.dtype))


def _mixed(bits: jax.Array) -> jax.Array:
    for shift, factor in _ROUND:
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    return bits ^ (bits >> 16)
