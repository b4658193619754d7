"""Weights of a network in the type of its feature maps, where that is narrower than their own."""

from typing import Any

import jax
import jax.numpy as jnp

from jdarts import native
from jdarts.ops.precision import wide_type
from jdarts.xla.leaves import join_leaves, split_leaves

#: The classifier, and scale and bias of batch norms, are read in their own type.
_WIDE = frozenset({"classifier", "scale", "bias"})


def narrowed_together(weights: Any, dtype: Any) -> Any:
    """The same weights for a network; those that it casts to the type of its feature maps have that type already.

    A network casts every array of weights where it reads it, and the gradient of each back: on a GPU two small kernels for
    each. Here the arrays are one vector, which is cast in one kernel. Where no native function joins and splits them, they
    stay as they are.

    Args:
      weights: the network's variables `params`.
      dtype: type of the network's feature maps.
    """
    narrow = jnp.dtype(dtype)
    wide = jnp.dtype(wide_type(narrow))
    if wide == narrow or not all(native.is_native_here("part", each) for each in (wide, narrow)):
        return weights
    paths, structure = jax.tree_util.tree_flatten_with_path(weights)
    leaves = [leaf for _, leaf in paths]
    cast = [
        number
        for number, (path, leaf) in enumerate(paths)
        if leaf.dtype == wide and _WIDE.isdisjoint(getattr(key, "key", None) for key in path)
    ]
    if len(cast) > 1:
        vector = join_leaves([leaves[number] for number in cast]).astype(narrow)
        for number, leaf in zip(cast, split_leaves(vector, [leaves[number].shape for number in cast]), strict=True):
            leaves[number] = leaf
    return jax.tree.unflatten(structure, leaves)
