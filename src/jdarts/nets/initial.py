"""Initial variables from one draw of random numbers.

A program that draws hundreds of arrays one by one, as a network's own `init` does, takes the compiler half a minute.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.xla.jax_compat import define_prng_impl


def initial_variables(init: Callable[[jax.Array], Any], key: jax.Array) -> Any:
    """What `init(key)` might give, in a fraction of the time; the numbers are others, their distribution is the same.

    Args:
      init: from a key to a pytree of arrays, each of them the same in every element, or drawn uniformly between bounds that
        are the same in every element: `lambda key: network.init(key, images, train=False)` for the networks here.
      key: for the random numbers.

    Returns:
      The pytree, on the default device.
    """
    shapes = jax.eval_shape(init, key)
    firsts = jax.jit(lambda key: jax.tree.map(lambda leaf: leaf.reshape(-1)[0], init(key)))
    lowest, highest = (jax.tree.leaves(jax.device_get(firsts(_extreme_key(ones)))) for ones in (0, 1))
    leaves, tree = jax.tree.flatten(shapes)
    drawn = [lo != hi for lo, hi in zip(lowest, highest)]
    total = sum(leaf.size for leaf, is_drawn in zip(leaves, drawn) if is_drawn)
    precise = any(leaf.dtype == np.float64 for leaf in leaves)
    numbers = np.asarray(jax.random.uniform(key, (total,), jnp.float64 if precise else jnp.float32))
    values, start = [], 0
    for leaf, lo, hi, is_drawn in zip(leaves, lowest, highest, drawn):
        if is_drawn:
            stop = start + math.prod(leaf.shape)
            part = numbers[start:stop].reshape(leaf.shape).astype(leaf.dtype)
            values.append((lo + part * (hi - lo)).astype(leaf.dtype))
            start = stop
        else:
            values.append(np.full(leaf.shape, lo, leaf.dtype))
    return jax.tree.map(jnp.asarray, jax.tree.unflatten(tree, values))


def _extreme_bits(key: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array:
    """The smallest number of this width everywhere, or the largest."""
    dtype = jnp.dtype(f"uint{width}")
    return jnp.broadcast_to(jnp.where(key[0] == 0, jnp.zeros((), dtype), ~jnp.zeros((), dtype)), shape)


#: Keys that draw nothing but the least or the greatest of all numbers: they tell the bounds of a distribution.
_EXTREMES = define_prng_impl(
    key_shape=(1,),
    seed=lambda seed: seed.astype(jnp.uint32).reshape(1),
    split=lambda key, shape: jnp.broadcast_to(key, (*shape, 1)),
    random_bits=_extreme_bits,
    fold_in=lambda key, data: key,
    name="extremes",
    tag="extremes",
)


def _extreme_key(ones: int) -> jax.Array:
    return jax.random.wrap_key_data(jnp.full(1, ones, jnp.uint32), impl=_EXTREMES)
