"""The sums of a cell's unfinished nodes, as a stage gives them: the first, which it finishes, is a result by itself."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jdarts.ops.precision import wide_type


def place(row: int) -> tuple[int, int]:
    """Which result has the sum of an unfinished node, and in which row."""
    return (0, 0) if row == 0 else (1, row - 1)


def sizes(unfinished: int) -> tuple[int, ...]:
    """The numbers of rows of the results for a number of unfinished nodes."""
    return (1, unfinished - 1) if unfinished > 1 else (1,)


def sums_by_image(
    maps: jax.Array, factors: jax.Array, rows: Sequence[int], sums: jax.Array | None, unfinished: int
) -> tuple[jax.Array, ...]:
    """Adds edges to the sums of nodes, each image with its own factor.

    Args:
      maps: the edges `[E, B, H, W, C]`.
      factors: `[E, B]`, of the maps' `wide_type`.
      rows: for each edge, the row of its node among the unfinished ones.
      sums: sums so far `[unfinished, B, H, W, C]`, or None.
      unfinished: number of unfinished nodes.

    Returns:
      Stacks of `sizes(unfinished)` rows.
    """
    wide = maps.astype(wide_type(maps.dtype))

    def total(row: int) -> jax.Array:
        terms = [wide[n] * factors[n][:, None, None, None] for n, own in enumerate(rows) if own == row]
        if sums is not None:
            terms.append(sums[row].astype(wide.dtype))
        return sum(terms[1:], terms[0]).astype(maps.dtype)

    first, *others = (total(row) for row in range(unfinished))
    return (first[None], jnp.stack(others)) if others else (first[None],)
