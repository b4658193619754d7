"""States in tests: their keys, and several states as one."""

import jax
import jax.numpy as jnp
import numpy as np


def is_key(leaf):
    """Whether an array is one of keys."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@jax.jit
def _stacked_keys(*keys):
    return jnp.stack(keys)


def stacked(trees):
    """Several trees of arrays as one, along new first axes; a program is needed for keys alone."""

    def stack(*leaves):
        return _stacked_keys(*leaves) if is_key(leaves[0]) else np.stack(leaves)

    return jax.tree.map(stack, *trees)
