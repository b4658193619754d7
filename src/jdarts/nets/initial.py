"""Initial variables of networks, all of them from one draw of random numbers.

A program that draws hundreds of arrays one by one, as a network's own `init` does, takes the compiler half a minute.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.xla.jax_compat import define_prng_impl
from jdarts.xla.leaves import split_leaves


class _Leaf(NamedTuple):
    """One array: drawn uniformly between two numbers, or filled with one where they are equal, or `fixed`."""

    shape: tuple[int, ...]
    dtype: Any
    lowest: Any
    highest: Any
    fixed: Any = None

    @property
    def is_drawn(self) -> bool:
        return self.fixed is None and self.lowest != self.highest


def from_one_draw(init: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    """A function with results of the distribution that those of `init` have, which is compiled in a fraction of the time.

    Args:
      init: from a key to a pytree of arrays, each of them the same in every element, or drawn uniformly between bounds that
        are the same in every element, or independent of the key with two first elements that differ, such as an identity:
        `lambda key: network.init(key, images, train=False)` for the networks here.

    Returns:
      A pure function from a key to such a pytree. The numbers are others than those of `init`.
    """

    @functools.cache
    def described() -> tuple[list[_Leaf], Any]:
        def leaves_of(bits: jax.Array) -> list[jax.Array]:
            return jax.tree.leaves(init(jax.random.wrap_key_data(bits, impl=_EXTREMES)))

        def evaluated(function: Callable[[jax.Array], list[jax.Array]]) -> list[list[Any]]:
            """On both extremes of bits."""
            # Compiled before it is called, since a call in a program that is being traced would become part of that program.
            compiled = jax.jit(function).lower(jax.ShapeDtypeStruct((1,), np.uint32)).compile()
            return [jax.device_get(compiled(np.full(1, ones, np.uint32))) for ones in (0, 1)]

        lowest, highest = evaluated(lambda bits: [leaf.reshape(-1)[:2] for leaf in leaves_of(bits)])
        shapes, structure = jax.tree.flatten(jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0))))
        leaves = [_Leaf(leaf.shape, leaf.dtype, low[0], high[0]) for leaf, low, high in zip(shapes, lowest, highest)]
        uneven = [n for n, low in enumerate(lowest) if low[0] != low[-1]]
        if uneven:
            values = evaluated(lambda bits: [leaf for n, leaf in enumerate(leaves_of(bits)) if n in uneven])[0]
            for n, value in zip(uneven, values):
                leaves[n] = leaves[n]._replace(fixed=value)
        return leaves, structure

    def draw(key: jax.Array) -> Any:
        leaves, structure = described()
        drawn = [leaf for leaf in leaves if leaf.is_drawn]
        numbers = jax.random.uniform(
            key, (sum(math.prod(leaf.shape) for leaf in drawn),), jnp.result_type(*(leaf.dtype for leaf in drawn))
        )
        parts = iter(split_leaves(numbers, [leaf.shape for leaf in drawn]))
        values = [
            (leaf.lowest + next(parts) * (leaf.highest - leaf.lowest)).astype(leaf.dtype)
            if leaf.is_drawn
            else jnp.full(leaf.shape, leaf.lowest if leaf.fixed is None else leaf.fixed, leaf.dtype)
            for leaf in leaves
        ]
        return jax.tree.unflatten(structure, values)

    return draw


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
