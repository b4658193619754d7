"""The derivative of an optimiser's update, where some of its slopes are infinite too.

In the reverse mode of JAX 0 · ∞ and 0 / 0 are NaN. They occur at the square root of 0 (`optax.adam` at a gradient of 0), at the
norm of zeros (`optax.clip_by_global_norm`), and in the branch of a `where` that an optimiser does not take (the first steps of
`optax.radam`). The derivative of the update exists there: what is 0 stays 0, however steep the slope is that it meets.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.bilevel.updates import first_line
from jdarts.errors import InputError
from jdarts.xla.jaxprs import evaluated
from jdarts.xla.trees import all_finite, map_entries

PyTree = Any


def pulled_back(pull: Callable[..., Any], cotangents: PyTree) -> Any:
    """Cotangents through an update, in which 0 times an infinite slope is 0.

    A finite cotangent is that of `pull`, bit for bit. Any other is computed as a function of a number `s` in the place of
    infinite slopes: its value at 0 is the result if it does not depend on `s`. At a kink such as that of `√(c·g²)` this is the
    mean of the slopes on both sides.

    Args:
      pull: the second result of `jax.vjp`.
      cotangents: of the results of the function.

    Returns:
      The cotangents of the arguments, NaN where an infinite slope matters.

    Raises:
      InputError: the function has no reverse mode.
    """
    try:
        plain = pull(cotangents)
    except ValueError as error:
        raise InputError(
            f"the weight optimiser's update has no derivative ({first_line(error)}); use first_order(), or a virtual_optimizer "
            "with the same state"
        ) from error
    slopes, structure = jax.tree.flatten(pull)
    leaves, form = jax.tree.flatten(plain)
    floats = [place for place, leaf in enumerate(leaves) if is_float(leaf)]

    def of_slopes(slopes: list[Any]) -> list[Any]:
        found = jax.tree.leaves(jax.tree.unflatten(structure, slopes)(cotangents))
        return [found[place] for place in floats]

    traced = jax.make_jaxpr(of_slopes)(slopes)

    def with_steepness(steepness: jax.Array) -> list[Any]:
        """The cotangents with a number for each infinite slope, another one for each array so that no two cancel."""
        given = [
            jnp.where(jnp.isfinite(slope), slope, steepness.astype(slope.dtype) * _steep(slope.dtype) / (1 + place))
            if is_float(slope)
            else slope
            for place, slope in enumerate(slopes)
        ]

        def divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
            vanishes = denominator == 0
            slope = steepness.astype(numerator.dtype) * _steep(numerator.dtype)
            usual = numerator / jnp.where(vanishes, jnp.ones_like(denominator), denominator)
            return jnp.where(vanishes, numerator * slope, usual)

        return evaluated(traced, given, {"div": divide})

    flat, one = with_steepness(jnp.float32(0)), jnp.float32(1)
    _, changes = jax.jvp(with_steepness, (one,), (one,))

    def chosen(plain: jax.Array, flat: jax.Array, change: jax.Array) -> jax.Array:
        matters = ~(jnp.abs(change) <= 1e-3 * jnp.abs(flat))
        return jnp.where(jnp.isfinite(plain), plain, jnp.where(matters, jnp.full_like(flat, jnp.nan), flat))

    for place, leaf in zip(floats, map_entries(chosen, [leaves[place] for place in floats], flat, changes)):
        leaves[place] = leaf
    return jax.tree.unflatten(form, leaves)


def stays_finite(given: PyTree, pulled: PyTree) -> jax.Array:
    """Whether the cotangents that were pulled back are finite, if the given ones are; bool `[]`."""
    before, after = ([leaf for leaf in jax.tree.leaves(tree) if is_float(leaf)] for tree in (given, pulled))
    return all_finite(after) | ~all_finite(before)


def no_cotangents(tree: PyTree) -> PyTree:
    """Cotangents of 0 for a pytree of any arrays."""
    return jax.tree.map(
        lambda leaf: jnp.zeros_like(leaf) if is_float(leaf) else np.zeros(jnp.shape(leaf), jax.dtypes.float0), tree
    )


def is_float(leaf: Any) -> bool:
    """Whether an array has derivatives."""
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _steep(dtype: Any) -> float:
    """A slope that is steeper than any that matters, and whose square is finite."""
    return float(jnp.finfo(dtype).max) ** 0.5
