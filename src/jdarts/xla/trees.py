"""Arithmetic on whole pytrees. Large ones are handled as one vector; leaf by leaf, they would be hundreds of kernels.

XLA compiles every such kernel, repeats a sum of scalars in each kernel that uses it, and takes time that grows with the square of
their number to compile a program and to load it from a cache.

On TPUs everything is leaf by leaf: a vector and a matrix lie there in different tiles, so that every leaf would be copied into a
vector and back. XLA makes the sums over a leaf where it makes the leaf.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jdarts import native
from jdarts.xla.leaves import join_leaves, split_leaves
from jdarts.xla.platform import target_platform

#: A pytree of this many leaves or more is large.
MANY = 64


def global_norm(tree: Any) -> jax.Array:
    """The Euclidean norm of all leaves together; `[]`."""
    return jnp.sqrt(sum_of_squares(tree))


def sum_of_squares(tree: Any) -> jax.Array:
    """The square of `global_norm`; `[]`."""
    if target_platform() == "tpu":
        return jnp.sum(_of_each(lambda leaf: jnp.sum(jnp.square(leaf)), tree))
    return jnp.sum(jnp.square(_vector(tree)))


def finished(tree: Any) -> Any:
    """The same pytree; on TPUs XLA moves nothing that is done to the leaves to before a change of their order in memory.

    A factor would be multiplied there in a kernel for each leaf, and not where the leaf is used.
    """
    return jax.lax.optimization_barrier(tree) if target_platform() == "tpu" else tree


def all_finite(tree: Any) -> jax.Array:
    """Whether no entry of any leaf is NaN or infinite; bool `[]`."""
    by_type: dict[Any, list[Any]] = {}
    for leaf in jax.tree.leaves(tree):
        by_type.setdefault(jnp.result_type(leaf), []).append(leaf)
    if target_platform() == "tpu":
        by_type = {dtype: [_of_each(_largest, leaves)] for dtype, leaves in by_type.items()}
    finite = [jnp.all(jnp.isfinite(_vector(leaves))) for leaves in by_type.values()]
    return functools.reduce(jnp.logical_and, finite, jnp.array(True))


def map_entries(function: Callable[..., jax.Array], tree: Any, *others: Any) -> Any:
    """`jax.tree.map` of a function that treats every entry of its arrays alike, wherever it is.

    Args:
      function: of as many arrays of one shape as there are trees; gives an array of that shape.
      tree: pytree of arrays.
      *others: pytrees of the same structure, shapes and types.
    """
    if not _is_large(tree):
        return jax.tree.map(function, tree, *others)
    return _tree(function(*map(_vector, (tree, *others))), tree)


def apply_updates(tree: Any, updates: Any, step: jax.Array | float = 1.0) -> Any:
    """`tree + step · updates`, in the types of the tree's leaves.

    Args:
      tree: pytree of floating-point arrays.
      updates: pytree of the same structure.
      step: a number, or an array `[]`.
    """
    if _is_large(tree) and _is_large(updates) and _same_places(tree, updates) and _splits_at_once(tree):
        start = _vector(tree)
        return _tree(start + (step * _vector(updates)).astype(start.dtype), tree)
    return optax.apply_updates(tree, jax.tree.map(lambda update: step * update, updates))


def as_vector(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimiser that handles all weights as one vector if they are a large pytree; its updates are the same.

    Checkpoints hold its state. If all weights have one type, the state has the layout for one vector, large pytree or not: the
    layout depends on the types alone. On TPUs it is leaf by leaf; a checkpoint of either is read as the other.

    Args:
      optimizer: treats all entries of the weights alike, wherever they are.
    """

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        if _is_large(updates):
            vector, state = optimizer.update(_vector(updates), state, None if params is None else _vector(params))
            return _tree(vector, updates), state
        if not _has_one_type(updates):
            return optimizer.update(updates, state, params)
        # The state for a tree has trees where that for a vector has vectors.
        of_leaves = jax.eval_shape(optimizer.init, updates)
        updates, found = optimizer.update(updates, jax.tree.map(_like, state, of_leaves), params)
        return updates, jax.tree.map(lambda old, new: new if _is_same(old, new) else _vector(new), state, found)

    return optax.GradientTransformation(lambda params: optimizer.init(as_in_state(params)), update)


def as_in_state(tree: Any) -> Any:
    """The numbers of a pytree like the weights as the state of `as_vector` holds them."""
    return tree if target_platform() == "tpu" or not _has_one_type(tree) else _vector(tree)


def _splits_at_once(tree: Any) -> bool:
    """Whether one call splits a vector. On accelerators without one, XLA fuses the sums of many leaves into one kernel."""
    dtype = jnp.result_type(jax.tree.leaves(tree)[0])
    return target_platform() == "cpu" or native.is_native_here("part", dtype)


def _like(entry: jax.Array, target: Any) -> Any:
    return entry if _is_same(entry, target) else _tree(entry, target)


def _is_same(entry: jax.Array, other: Any) -> bool:
    return jax.tree_util.treedef_is_leaf(jax.tree.structure(other)) and jnp.shape(entry) == jnp.shape(other)


def _is_large(tree: Any) -> bool:
    return target_platform() != "tpu" and len(jax.tree.leaves(tree)) >= MANY and _has_one_type(tree)


def _has_one_type(tree: Any) -> bool:
    return len({jnp.result_type(leaf) for leaf in jax.tree.leaves(tree)}) == 1


def _same_places(tree: Any, other: Any) -> bool:
    return jax.tree.structure(tree) == jax.tree.structure(other) and _shapes(tree) == _shapes(other)


def _shapes(tree: Any) -> list[tuple[int, ...]]:
    return [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]


def _vector(tree: Any) -> jax.Array:
    return join_leaves(jax.tree.leaves(tree)) if _is_large(tree) else ravel_pytree(tree)[0]


def _of_each(function: Callable[[jax.Array], jax.Array], tree: Any) -> jax.Array:
    """The numbers `[]` that a function gives for each leaf, as a vector."""
    numbers = [function(leaf) for leaf in jax.tree.leaves(tree)]
    if not numbers:
        return jnp.zeros(0)
    # The barrier keeps XLA from a sum of parts for each group of numbers that it joins.
    return jax.lax.optimization_barrier(join_leaves([number.astype(jnp.result_type(*numbers)) for number in numbers]))


def _largest(leaf: jax.Array) -> jax.Array:
    """The largest absolute value; NaN if there is one."""
    return jnp.max(jnp.abs(leaf), initial=0)


def _tree(vector: Any, like: Any) -> Any:
    return jax.tree.unflatten(jax.tree.structure(like), split_leaves(vector, _shapes(like)))
