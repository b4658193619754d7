"""Perturbations of a mixture: uniform noise, and an attack on the loss (SDARTS; Chen and Hsieh 2020, its authors' code)."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.relaxation import Space, map_tables

#: Control: how far an entry may move.
RADIUS = "radius"

#: Steps of the attack.
STEPS = 7

Tables = Mapping[str, jax.Array]


def projected(table: jax.Array, mask: np.ndarray | None = None) -> jax.Array:
    """Rows of a table as weights that sum to 1: entries are clipped to 0..1, and the row is divided by its sum.

    Where nothing is left of a row, its largest entry before the clipping becomes 1. This is not the nearest point of the simplex.

    Args:
      table: `[…, E, O]`.
      mask: candidates, bool `[E, O]`; the others become 0. By default all are candidates.
    """
    mask = np.ones(table.shape[-2:], bool) if mask is None else mask
    candidates = jnp.where(mask, table, -jnp.inf)
    clipped = jnp.where(mask, jnp.clip(table, 0, 1), 0)
    largest = jax.nn.one_hot(jnp.argmax(candidates, axis=-1), table.shape[-1], dtype=table.dtype)
    rows = jnp.where(jnp.sum(clipped, axis=-1, keepdims=True) > 0, clipped, largest)
    return rows / jnp.sum(rows, axis=-1, keepdims=True)


def all_projected(tables: Tables, space: Space) -> dict[str, jax.Array]:
    """`projected` for each kind of cell, among the candidates of a search space."""
    return map_tables(projected, tables, space)


def uniform_noise(key: jax.Array, tables: Tables, radius: jax.Array) -> dict[str, jax.Array]:
    """An independent uniform number within ± `radius` for each entry of tables `{kind: [E, O]}`."""
    keys = dict(zip(tables, jax.random.split(key, len(tables))))
    return {
        kind: jax.random.uniform(keys[kind], table.shape, table.dtype, -1, 1) * jnp.asarray(radius, table.dtype)
        for kind, table in tables.items()
    }


class Attack(NamedTuple):
    """The result of an attack.

    Attributes:
      tables: the mixture that it found, or the one before it if the loss did not rise.
      reverted: bool `[]`, whether the attack was dropped.
      losses: `[STEPS + 2]`: of the mixture before the attack, before each step, and at the end.
      trace: mixtures at the start and after each step, `{kind: [STEPS + 1, E, O]}`.
      before_projection: the same before their projection.
    """

    tables: dict[str, jax.Array]
    reverted: jax.Array
    losses: jax.Array
    trace: dict[str, jax.Array]
    before_projection: dict[str, jax.Array]


def adversarial(
    loss: Callable[[Tables], jax.Array],
    tables: Tables,
    noise: Tables,
    radius: jax.Array,
    space: Space,
    *,
    average: Callable[[Any], Any] = lambda tree: tree,
) -> Attack:
    """Raises a loss by signed gradient steps in the mixture, all kinds of cells at once.

    A step adds `2·radius/7` times the sign of the gradient; what has moved further than `radius` from `tables` is brought back
    before the projection, which may move it again.

    Args:
      loss: of the mixture, on this device; with running statistics, so that they stay as they are.
      tables: mixture weights `{kind: [E, O]}`.
      noise: moves the start of the attack, as `uniform_noise` gives it.
      radius: scalar.
      space: the search space.
      average: the mean over devices of a pytree, so that all of them find one mixture.
    """

    def step(current: dict[str, jax.Array], _: None) -> tuple[dict[str, jax.Array], tuple]:
        value, gradient = average(jax.value_and_grad(loss)(current))

        def moved(kind: str) -> jax.Array:
            limit = jnp.asarray(radius, current[kind].dtype)
            far = current[kind] + 2 * limit / STEPS * jnp.sign(gradient[kind])
            return tables[kind] + jnp.clip(far - tables[kind], -limit, limit)

        raw = {kind: moved(kind) for kind in tables}
        found = all_projected(raw, space)
        return found, (value, found, raw)

    before = average(loss(tables))
    moved_start = {kind: table + noise[kind] for kind, table in tables.items()}
    start = all_projected(moved_start, space)
    found, (values, trace, raw) = jax.lax.scan(step, start, None, length=STEPS)
    after = average(loss(found))
    reverted = before > after
    kept = {kind: jnp.where(reverted, table, found[kind]) for kind, table in tables.items()}

    def joined(first: Tables, rows: Tables) -> dict[str, jax.Array]:
        return {kind: jnp.concatenate([first[kind][None], table]) for kind, table in rows.items()}

    losses = jnp.concatenate([before[None], values, after[None]])
    return Attack(kept, reverted, losses, joined(start, trace), joined(moved_start, raw))
