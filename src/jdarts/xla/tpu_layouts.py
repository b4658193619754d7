"""Orders of axes in memory that programs for TPUs ask XLA for, so that it copies nothing from one order into another."""

import jax

from jdarts.xla.jax_compat import Layout, with_layout_constraint


def row_major(table: jax.Array) -> jax.Array:
    """A small table `[rows, …, C]` that keeps its order: XLA would turn it around and back for single operations."""
    return with_layout_constraint(table, Layout(tuple(range(table.ndim))))
