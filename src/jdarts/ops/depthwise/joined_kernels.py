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
    """The same weights. In a program for TPUs, all kernels of equally many channels change their order as one array.

    There, a convolution reads the edges and channels of a kernel as one axis, in other tiles than the kernel's own: to bring
    a kernel and its gradient from one to the other are two operations for each.

    Args:
      weights: pytree of arrays; those of shape `[E, k, k, C]` are taken for kernels.
    """
    if target_platform() != "tpu":
        return weights
    leaves, structure = jax.tree.flatten(weights)
    # Kernels of equally many edges are a column, one below the other; columns of equally many taps stand side by side.
    columns: dict[Any, list[int]] = {}
    for number, leaf in enumerate(leaves):
        if leaf.ndim == 4 and leaf.shape[0] > 1 and leaf.shape[1] == leaf.shape[2]:
            columns.setdefault((leaf.shape[0], leaf.shape[3], leaf.dtype), []).append(number)
    tables: dict[Any, list[list[int]]] = {}
    for (_, channels, dtype), column in columns.items():
        taps = sum(_taps(leaves[number]) for number in column)
        tables.setdefault((channels, dtype, taps), []).append(column)
    for table in tables.values():
        numbers = list(itertools.chain(*table))
        if len(numbers) > 1:
            kernels = _reordered([[leaves[number] for number in column] for column in table])
            for number, kernel in zip(numbers, kernels, strict=True):
                leaves[number] = kernel
    return jax.tree.unflatten(structure, leaves)


def _taps(kernel: jax.Array) -> int:
    return kernel.shape[1] * kernel.shape[2]


def _reordered(columns: Sequence[Sequence[jax.Array]]) -> list[jax.Array]:
    """The kernels of all columns, one column after the other."""
    channels, taps = columns[0][0].shape[3], sum(map(_taps, columns[0]))
    edges = sum(column[0].shape[0] for column in columns)
    # Each kernel with its first edge and its first tap in the table.
    places, edge = [], 0
    for column in columns:
        starts = itertools.accumulate(map(_taps, column[:-1]), initial=0)
        places += [(kernel, edge, tap) for kernel, tap in zip(column, starts, strict=True)]
        edge += column[0].shape[0]
    # Sums of padded arrays, of which XLA makes one operation, forward and in the transpose of the slices.
    padded = []
    for kernel, edge, tap in places:
        part = jnp.moveaxis(kernel.reshape(kernel.shape[0], -1, channels), 1, 0)
        around = [(tap, taps - tap - part.shape[0], 0), (edge, edges - edge - part.shape[1], 0), (0, 0, 0)]
        padded.append(lax.pad(part, jnp.zeros((), part.dtype), around))
    rows = _in_order(_in_order(sum(padded[1:], padded[0])).reshape(taps, 1, edges * channels))
    found = []
    for kernel, edge, tap in places:
        own = rows[tap : tap + _taps(kernel), :, edge * channels : (edge + kernel.shape[0]) * channels]
        found.append(jnp.moveaxis(own.reshape(-1, kernel.shape[0], channels), 0, 1).reshape(kernel.shape))
    return found


def _in_order(table: jax.Array) -> jax.Array:
    """A table as one array in its order: without the barrier XLA changes the order of every part."""
    return lax.optimization_barrier(row_major(table))
