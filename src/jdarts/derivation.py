"""From alphas, or the record of a checkpoint, to a genotype: the strongest operations of the strongest edges (section 2.4)."""

from typing import Any

import numpy as np

from jdarts.errors import InputError
from jdarts.genotype import INPUT_STATES, AnyGenotype, Cell, Genotype, RecurrentGenotype
from jdarts.methods.method import DARTS, method_by_name
from jdarts.operations import NONE
from jdarts.relaxation import (
    RECURRENT,
    SOFTMAX,
    Alphas,
    Mixture,
    Space,
    alphas_from_json,
    candidate_mask,
    operations_of,
)
from jdarts.space import CellKind, RecurrentSpace, SearchSpace


def derive_genotype(
    alphas: Alphas, space: SearchSpace, *, edges_per_node: int = 2, mixture: Mixture = SOFTMAX
) -> Genotype:
    """The discrete cells that a search has found.

    Each edge takes the softmax over all its operations, `none` included, and is as strong as its strongest operation
    other than `none`. Each node keeps its strongest edges, in descending order; the earlier one among equals.

    Args:
      alphas: `{'normal': [E, O], 'reduce': [E, O]}`, architecture parameters before the softmax.
      space: the search space that they belong to.
      edges_per_node: edges kept for each node, or all if a node has fewer. The paper keeps 2 in convolutional cells.
      mixture: the mixture of the alphas; it defines how strong an operation is.

    Returns:
      The genotype.

    Raises:
      InputError: alphas of another shape or not finite, or fewer than one edge per node.
    """
    if edges_per_node < 1:
        raise InputError(f"{edges_per_node} edges per node; give 1 or more (the paper keeps 2)")
    cells = _derived(alphas, space, edges_per_node, mixture)
    return Genotype(cells["normal"], space.concat, cells["reduce"], space.concat, edges_per_node)


def derive_recurrent_genotype(
    alphas: Alphas, space: RecurrentSpace, *, mixture: Mixture = SOFTMAX
) -> RecurrentGenotype:
    """The discrete recurrent cell that a search has found: each node keeps its strongest edge, as in `derive_genotype`.

    Args:
      alphas: `[E, O]`, architecture parameters before the softmax.
      space: the search space that they belong to.
      mixture: as for `derive_genotype`.

    Returns:
      The genotype.

    Raises:
      InputError: alphas of another shape or not finite.
    """
    return RecurrentGenotype(_derived(alphas, space, 1, mixture)[RECURRENT], space.concat)


def sample_genotype(space: SearchSpace, seed: int, *, edges_per_node: int = 2) -> Genotype:
    """Draws a pair of cells such as a search in this space might derive: the baseline of every search (paper section 3.3).

    Every node keeps `edges_per_node` of its edges, or all if it has fewer; every kept edge carries one of its operations
    other than `none`. Both are drawn uniformly and without regard to the other edges.

    Args:
      space: the search space.
      seed: the same seed gives the same cells, in every version of numpy.
      edges_per_node: edges kept for each node; the paper keeps 2 in convolutional cells.

    Raises:
      InputError: fewer than one edge per node, or a seed of more than 32 bits.
    """
    if edges_per_node < 1:
        raise InputError(f"{edges_per_node} edges per node; give 1 or more (the paper keeps 2)")
    if not 0 <= seed < 2**32:
        raise InputError(f"seed is {seed}; give a number from 0 to below 2^32")
    # NumPy guarantees the numbers of RandomState in all versions, but not those of default_rng.
    draws = np.random.RandomState(seed)
    return Genotype(
        normal=_drawn(draws, space, "normal", edges_per_node),
        normal_concat=space.concat,
        reduce=_drawn(draws, space, "reduce", edges_per_node),
        reduce_concat=space.concat,
        edges_per_node=edges_per_node,
    )


def genotype_of(record: Any, *, edges_per_node: int | None = None) -> AnyGenotype:
    """The genotype of a checkpoint's record.

    Args:
      record: `Checkpoint.record` of a search: the fields of its space under `space`, the alphas under `alphas`, its method
        under `method` unless it is DARTS, and for convolutional cells `edges_per_node`.
      edges_per_node: edges to keep for each node; by default as in the search.

    Raises:
      InputError: the record is not that of a search, or more than one edge for each node of a recurrent cell.
    """
    space = space_of(record)
    recurrent = isinstance(space, RecurrentSpace)
    count: Any = 1 if recurrent else record.get("edges_per_node")
    if "alphas" not in record or type(count) is not int:
        raise InputError("the checkpoint is not that of a search for cells: its alphas or edges per node are missing")
    count = count if edges_per_node is None else edges_per_node
    alphas, mixture = alphas_from_json(record["alphas"]), method_by_name(record.get("method", DARTS)).mixture
    if isinstance(space, SearchSpace):
        return derive_genotype(alphas, space, edges_per_node=count, mixture=mixture)
    if count != 1:
        raise InputError(f"{count} edges per node; nodes of a recurrent cell have 1, leave --edges-per-node out")
    return derive_recurrent_genotype(alphas, space, mixture=mixture)


def space_of(record: Any) -> SearchSpace | RecurrentSpace:
    """The space of the search of a checkpoint's record.

    Raises:
      InputError: the record is not that of a search.
    """
    fields = record.get("space") if isinstance(record, dict) else None
    if not isinstance(fields, dict):
        raise InputError("the checkpoint is not that of a search for cells (the space is missing)")
    try:
        return RecurrentSpace(**fields) if "recurrent" in fields else SearchSpace(**fields)
    except TypeError:
        raise InputError(
            "the checkpoint is not that of a search for cells (its space is not lists of operations)"
        ) from None


def _derived(alphas: Alphas, space: Space, edges_per_node: int, mixture: Mixture) -> dict[str, Cell]:
    """The strongest edges of every node, by kind of cell."""
    strengths = mixture.strengths(alphas, space)
    return {
        kind: _strongest(strengths[kind], space, kind, operations, edges_per_node)
        for kind, operations in operations_of(space).items()
    }


def _strongest(
    strengths: np.ndarray, space: Space, kind: str, operations: tuple[tuple[str, ...], ...], edges_per_node: int
) -> Cell:
    if not np.all(np.isfinite(strengths[candidate_mask(operations)])):
        raise InputError(f"the alphas of the {kind} cell are not all finite; use an earlier checkpoint of the search")
    chosen = [_strongest_operation(row, names) for row, names in zip(strengths, operations)]
    cell = []
    for target in dict.fromkeys(target for _, target in space.edges):
        incoming = [
            (strength, name, source) for (strength, name), (source, node) in zip(chosen, space.edges) if node == target
        ]
        incoming.sort(key=lambda edge: -edge[0])
        cell += [(name, source) for _, name, source in incoming[:edges_per_node]]
    return tuple(cell)


def _strongest_operation(row: np.ndarray, names: tuple[str, ...]) -> tuple[float, str]:
    """The strength and the name of the strongest operation other than `none`."""
    best = max((index for index, name in enumerate(names) if name != NONE), key=lambda index: row[index])
    return float(row[best]), names[best]


def _drawn(draws: np.random.RandomState, space: SearchSpace, kind: CellKind, edges_per_node: int) -> Cell:
    edges = list(zip(space.edges, space.operations(kind)))
    cell = []
    for target in range(INPUT_STATES, INPUT_STATES + space.nodes):
        incoming = [(source, names) for (source, node), names in edges if node == target]
        for place in sorted(draws.permutation(len(incoming))[:edges_per_node]):
            source, names = incoming[place]
            choices = [name for name in names if name != NONE]
            cell.append((choices[draws.randint(len(choices))], source))
    return tuple(cell)
