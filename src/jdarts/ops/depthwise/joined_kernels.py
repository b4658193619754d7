"""Depthwise kernels put into the order of convolutions together."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jdarts.xla.platform import target_platform
from jdarts.xla.tpu_layouts import row_major


def reordered_together(weights: Any) -> Any:
    """The same weights. In a program for TPUs, all kernels of equally many edges and channels change their order as one array.

    There, a convolution reads the edges and channels of a kernel as one axis, in other tiles than the kernel's own: to bring
    a kernel and its gradient from one to the other are two operations for each.

    Args:
      weights: pytree of arrays; those of shape `[E, k, k, C]` are taken for kernels.
    """
    if target_platform() != "tpu":
        return weights
    leaves, structure = jax.tree.flatten(weights)
    alike: dict[Any, list[int]] = {}
    for number, leaf in enumerate(leaves):
        if leaf.ndim == 4 and leaf.shape[0] > 1 and leaf.shape[1] == leaf.shape[2]:
            alike.setdefault((leaf.shape[0], leaf.shape[3], leaf.dtype), []).append(number)
    for members in alike.values():
        if len(members) > 1:
            for number, kernel in zip(members, _reordered([leaves[number] for number in members])):
                leaves[number] = kernel
    return jax.tree.unflatten(structure, leaves)


def _reordered(kernels: Sequence[jax.Array]) -> list[jax.Array]:
    edges, channels = kernels[0].shape[0], kernels[0].shape[3]
    tables = [jnp.moveaxis(kernel.reshape(edges, -1, channels), 1, 0) for kernel in kernels]
    ends = list(itertools.accumulate((table.shape[0] for table in tables), initial=0))
    # Sums of padded arrays, of which XLA makes one operation, forward and in the transpose of the slices.
    padded = [
        lax.pad(table, jnp.zeros((), table.dtype), [(begin, ends[-1] - end, 0), (0, 0, 0), (0, 0, 0)])
        for table, (begin, end) in zip(tables, itertools.pairwise(ends))
    ]
    rows = _in_order(_in_order(sum(padded[1:], padded[0])).reshape(ends[-1], 1, edges * channels))
    return [
        jnp.moveaxis(rows[begin:end].reshape(-1, edges, channels), 0, 1).reshape(kernel.shape)
        for kernel, (begin, end) in zip(kernels, itertools.pairwise(ends))
    ]


def _in_order(table: jax.Array) -> jax.Array:
    """A table as one array in its order: without the barrier XLA changes the order of every part."""
    return lax.optimization_barrier(row_major(table))
