"""Orders of axes in memory that programs for TPUs ask XLA for, so that it copies nothing from one order into another."""

import jax

from jdarts.xla.jax_compat import Layout, with_layout_constraint


def row_major(table: jax.Array) -> jax.Array:
    """A small table `[rows, …, C]` that keeps its order: XLA would turn it around and back for single operations."""
    return with_layout_constraint(table, Layout(tuple(range(table.ndim))))


def rows_within_pixels(maps: jax.Array) -> jax.Array:
    """Feature maps `[rows, B, H, W, C]` in the order pixels, rows, channels, images, from the slowest to the fastest.

    XLA has rows outermost otherwise, and copies them to where a convolution with a group for every row and channel reads them.
    Channels and images fill the registers in both orders.
    """
    return with_layout_constraint(maps, Layout((2, 3, 0, 4, 1))) if maps.ndim == 5 else maps
