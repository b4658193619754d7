"""Scalars of whole pytrees, of all leaves as one vector: a kernel, where a scalar of every leaf and their sum is hundreds.

XLA would also repeat such a sum of scalars in every kernel that uses it, once a leaf of an update, and compile for minutes.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree


def sum_of_squares(tree: Any) -> jax.Array:
    """The square of the Euclidean norm of all leaves together; `[]`."""
    return jnp.sum(jnp.square(ravel_pytree(tree)[0]))


def global_norm(tree: Any) -> jax.Array:
    """The Euclidean norm of all leaves together; `[]`."""
    return jnp.sqrt(sum_of_squares(tree))


def all_finite(tree: Any) -> jax.Array:
    """Whether no entry of any leaf is NaN or infinite; bool `[]`."""
    return jnp.all(jnp.isfinite(ravel_pytree(tree)[0]))
