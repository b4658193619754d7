"""Which operations stay on between the stages of a search: P-DARTS leaves the weakest out, DrNAS masks them."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.errors import InputError
from jdarts.operations import NONE
from jdarts.relaxation import (
    Alphas,
    Controls,
    Mixture,
    MixtureWeights,
    Space,
    alpha_tables,
    candidate_mask,
    operations_of,
    softmax_strengths,
)
from jdarts.space import SearchSpace

#: `{kind: [E, O]}`, True for operations that are still on.
Masks = Mapping[str, Sequence[Sequence[bool]]]

#: The strength of an operation that is off, below all others.
OFF = float(np.finfo(np.float64).min)

#: DrNAS subtracts this from alphas that are masked, so that they are never among the largest.
_MASKED = 1e6


def without_weakest(tables: Mapping[str, np.ndarray], space: SearchSpace, count: int) -> SearchSpace:
    """P-DARTS: the space of the next stage, in which every edge has lost its weakest operations.

    Args:
      tables: `{kind: [E, O]}`, strengths of the operations, such as the softmax weights or their logarithms.
      space: the space of this stage.
      count: how many operations each edge loses, the earlier ones among equals; `none` counts as any other.

    Raises:
      InputError: an edge would have no operation left, or nothing but `none`.
    """

    def remaining(row: np.ndarray, names: tuple[str, ...]) -> tuple[str, ...]:
        # A stable sort puts the earlier one of equal operations first.
        lost = set(np.argsort(row[: len(names)], kind="stable")[:count].tolist())
        return tuple(name for column, name in enumerate(names) if column not in lost)

    kept = {
        kind: tuple(remaining(row, names) for row, names in zip(tables[kind], space.operations(kind)))
        for kind in space.kinds
    }
    if any(not set(names) - {NONE} for cell in kept.values() for names in cell):
        raise InputError(f"{count} operations fewer leave an edge without any but none; give a smaller number")
    return dataclasses.replace(space, **kept)


def prune_alphas(
    alphas: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray] | None, keep: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """DrNAS: the largest alphas of each edge stay as they are, all others are 0 and masked.

    Args:
      alphas: `{kind: [E, O]}`.
      masks: `{kind: bool [E, O]}`, True for operations that are still on; None before the first pruning.
      keep: how many stay on each edge.

    Returns:
      The alphas, and the new masks.

    Raises:
      InputError: `keep` is below 1 or above the number of operations.
    """
    pruned, kept = {}, {}
    for kind, table in alphas.items():
        table = np.asarray(table)
        if not 1 <= keep <= table.shape[1]:
            raise InputError(f"{keep} operations are to be kept on each edge of {table.shape[1]}; give 1 or more")
        rank = table if masks is None else np.where(masks[kind], table, table - _MASKED)
        order = np.argsort(-rank, axis=-1, kind="stable")[:, :keep]
        kept[kind] = np.zeros(table.shape, bool)
        np.put_along_axis(kept[kind], order, True, axis=-1)
        pruned[kind] = np.where(kept[kind], table, np.zeros((), table.dtype))
    return pruned, kept


def masked_strengths(
    alphas: Mapping[str, np.ndarray], space: SearchSpace, masks: Mapping[str, np.ndarray] | None
) -> dict[str, np.ndarray]:
    """DrNAS: logarithms of the softmax weights, masked and divided by their sum; the lowest number where an operation is off.

    Args:
      alphas: `{kind: [E, O]}`.
      space: the search space.
      masks: as for `prune_alphas`.

    Raises:
      InputError: alphas of another shape.
    """
    if masks is None:
        return softmax_strengths(alphas, space)
    tables, operations = alpha_tables(alphas, space), operations_of(space)
    on = {kind: candidate_mask(operations[kind]) & masks[kind] for kind in tables}
    strengths = softmax_strengths({kind: np.where(on[kind], table, -np.inf) for kind, table in tables.items()}, space)
    return {kind: np.where(on[kind], table, OFF) for kind, table in strengths.items()}


def masked_mixture(mixture: Mixture, masks: Masks) -> Mixture:
    """DrNAS: a mixture whose operations are drawn as before, then masked and divided by their sum on each edge.

    The alphas of operations that are off count as 0, which for a Dirichlet mixture is a concentration of 1.

    Args:
      mixture: ranks its operations by the softmax of their alphas, as the Dirichlet mixture does; its alphas are tables.
      masks: the operations that are on.
    """

    def weights(alphas: Alphas, space: Space, key: jax.Array | None, controls: Controls) -> MixtureWeights:
        on = _checked(masks, space)
        tables = {kind: jnp.where(on[kind], table, 0) for kind, table in alpha_tables(alphas, space).items()}
        drawn = mixture.weights(tables, space, key, controls).operations
        kept = {kind: jnp.where(on[kind], table, 0) for kind, table in drawn.items()}
        return MixtureWeights({kind: table / jnp.sum(table, axis=-1, keepdims=True) for kind, table in kept.items()})

    return dataclasses.replace(
        mixture,
        weights=weights,
        strengths=lambda alphas, space: masked_strengths(alphas, space, _checked(masks, space)),
    )


def _checked(masks: Masks, space: Space) -> dict[str, np.ndarray]:
    """The masks as arrays.

    Raises:
      InputError: they are of another space, or leave an edge without an operation.
    """
    found = {}
    for kind, operations in operations_of(space).items():
        candidates = candidate_mask(operations)
        try:
            found[kind] = np.asarray(masks[kind])
        except (KeyError, TypeError, ValueError):
            found[kind] = np.zeros(())
        if found[kind].shape != candidates.shape or not np.any(found[kind] & candidates, axis=-1).all():
            raise InputError(f"the masks of the {kind} cell are not those of this space; use another checkpoint")
    return found
