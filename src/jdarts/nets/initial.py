"""Initial variables of networks, all of them from one draw of random numbers.

A program that draws hundreds of arrays one by one, as a network's own `init` does, takes the compiler half a minute.
"""

import contextvars
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.xla.jax_compat import ClosedJaxpr, define_prng_impl, jaxpr_as_fun
from jdarts.xla.leaves import split_leaves

#: The bits of a key of `_EXTREMES`.
_BITS = jax.ShapeDtypeStruct((1,), np.uint32)
#: Whether `shapes_of` evaluates a function, whose initial variables then need no numbers.
_SHAPES_ALONE = contextvars.ContextVar("shapes_alone", default=False)


def shapes_of(function: Callable[..., Any], *arguments: Any) -> Any:
    """The shapes and types of a function's results, as `jax.eval_shape` tells them.

    Functions of `from_one_draw` within it do not look at the distributions of their variables, which takes a compilation.
    """

    # JAX keeps traces by the function, and this one is good for nothing but shapes.
    def of_shapes(*arguments: Any) -> Any:
        return function(*arguments)

    token = _SHAPES_ALONE.set(True)
    try:
        return jax.eval_shape(of_shapes, *arguments)
    finally:
        _SHAPES_ALONE.reset(token)


class _Leaf(NamedTuple):
    """One array: drawn uniformly between two numbers, which are equal for a constant; or `fixed`; or drawn by `init` itself."""

    shape: tuple[int, ...]
    dtype: Any
    lowest: Any
    highest: Any
    fixed: Any = None
    by_init: bool = False

    @property
    def is_drawn(self) -> bool:
        return self.fixed is None and not self.by_init and self.lowest != self.highest


def from_one_draw(init: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    """A function with results of the distribution that those of `init` have, which is compiled in a fraction of the time.

    Args:
      init: from a key to a pytree of arrays, such as `lambda key: network.init(key, images, train=False)`. Those from one draw
        are uniform between bounds that are the same in every element. Arrays that are the same in every element, and those
        that are independent of the key with two first elements that differ, such as an identity, are filled. All others are
        drawn by `init` itself.

    Returns:
      A pure function from a key to such a pytree. The numbers are others than those of `init`.
    """

    @functools.cache
    def traced() -> tuple[ClosedJaxpr, Any]:
        """The program from extremes of bits to the leaves, and the shapes of what `init` returns."""

        def of_bits(bits: jax.Array) -> Any:
            return init(jax.random.wrap_key_data(bits, impl=_EXTREMES))

        return jax.make_jaxpr(of_bits, return_shape=True)(_BITS)

    @functools.cache
    def described() -> tuple[list[_Leaf], Any]:
        program, shapes = traced()
        leaves_of = jaxpr_as_fun(program)

        def evaluated(function: Callable[[jax.Array], list[jax.Array]]) -> list[list[Any]]:
            """On both extremes of bits, and on those of a quarter."""
            # Compiled before it is called, since a call in a program that is being traced would become part of that program.
            compiled = jax.jit(function).lower(_BITS).compile()
            return [jax.device_get(compiled(np.full(1, bits, np.uint32))) for bits in (0, 1, 2)]

        lowest, highest, quarter = evaluated(lambda bits: [leaf.reshape(-1)[:2] for leaf in leaves_of(bits)])
        flat, structure = jax.tree.flatten(shapes)
        leaves = [_Leaf(leaf.shape, leaf.dtype, low[0], high[0]) for leaf, low, high in zip(flat, lowest, highest)]
        for n, ends in enumerate(zip(lowest, highest, quarter)):
            if not _is_uniform(*(np.asarray(each, np.float64) for each in ends)):
                leaves[n] = leaves[n]._replace(by_init=True)
        uneven = [n for n, low in enumerate(lowest) if low[0] != low[-1] and not leaves[n].by_init]
        if uneven:
            values = evaluated(lambda bits: [leaf for n, leaf in enumerate(leaves_of(bits)) if n in uneven])[0]
            for n, value in zip(uneven, values):
                leaves[n] = leaves[n]._replace(fixed=value)
        return leaves, structure

    def draw(key: jax.Array) -> Any:
        if _SHAPES_ALONE.get():
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), traced()[1])
        leaves, structure = described()
        drawn = [leaf for leaf in leaves if leaf.is_drawn]
        numbers = jax.random.uniform(
            key,
            (sum(math.prod(leaf.shape) for leaf in drawn),),
            jnp.result_type(*(leaf.dtype for leaf in drawn or leaves)),
        )
        parts = iter(split_leaves(numbers, [leaf.shape for leaf in drawn]))
        values = [
            (leaf.lowest + next(parts) * (leaf.highest - leaf.lowest)).astype(leaf.dtype)
            if leaf.is_drawn
            else jnp.full(leaf.shape, leaf.lowest if leaf.fixed is None else leaf.fixed, leaf.dtype)
            for leaf in leaves
        ]
        if any(leaf.by_init for leaf in leaves):
            # The compiler removes all that `init` makes beside these.
            own = jax.tree.leaves(init(jax.random.fold_in(key, 1)))
            values = [each if leaf.by_init else value for leaf, value, each in zip(leaves, values, own)]
        return jax.tree.unflatten(structure, values)

    return draw


def _is_uniform(low: np.ndarray, high: np.ndarray, quarter: np.ndarray) -> bool:
    """Whether first elements are those of an array from one draw, or of one that does not depend on the key."""
    if np.array_equal(low, high):
        return bool(np.array_equal(low, quarter))
    even = len({*low}) == len({*high}) == 1
    return even and bool(np.allclose(quarter, low + (high - low) / 4, rtol=0, atol=1e-2 * np.abs(high - low).max()))


def _extreme_bits(key: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array:
    """The smallest number of this width everywhere, or the largest, or a quarter of the largest."""
    dtype = jnp.dtype(f"uint{width}")
    largest, zero = ~jnp.zeros((), dtype), jnp.zeros((), dtype)
    return jnp.broadcast_to(jnp.where(key[0] == 0, zero, jnp.where(key[0] == 1, largest, largest >> 2)), shape)


#: Keys that draw nothing but the least or the greatest of all numbers, or one at a quarter of the way: they tell the bounds of a
#: distribution, and whether it is uniform.
_EXTREMES = define_prng_impl(
    key_shape=(1,),
    seed=lambda seed: seed.astype(jnp.uint32).reshape(1),
    split=lambda key, shape: jnp.broadcast_to(key, (*shape, 1)),
    random_bits=_extreme_bits,
    fold_in=lambda key, data: key,
    name="extremes",
    tag="extremes",
)
