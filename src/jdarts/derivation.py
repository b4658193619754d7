"""From alphas to a genotype: the strongest operations of the strongest edges (paper section 2.4)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jdarts.errors import InputError
from jdarts.genotype import INPUT_STATES, NONE, Cell, Genotype
from jdarts.space import CellKind, SearchSpace


def derive_genotype(alphas: Mapping[str, Any], space: SearchSpace, *, edges_per_node: int = 2) -> Genotype:
    """The discrete cells that a search has found.

    Each edge takes the softmax over all its operations, `none` included, and is as strong as its strongest operation
    other than `none`. Each node keeps its strongest edges, in descending order; the earlier one among equals.

    Args:
      alphas: `{'normal': [E, O], 'reduce': [E, O]}`, architecture parameters before the softmax.
      space: the search space that they belong to.
      edges_per_node: edges kept for each node; all where a node has fewer. The paper keeps 2 in convolutional cells.

    Returns:
      The genotype.

    Raises:
      InputError: alphas of another shape or not finite, or fewer than one edge per node.
    """
    if edges_per_node < 1:
        raise InputError(f"{edges_per_node} edges per node; give 1 or more (the paper keeps 2)")
    return Genotype(
        normal=_strongest(alphas, space, "normal", edges_per_node),
        normal_concat=space.concat,
        reduce=_strongest(alphas, space, "reduce", edges_per_node),
        reduce_concat=space.concat,
        edges_per_node=edges_per_node,
    )


def _strongest(alphas: Mapping[str, Any], space: SearchSpace, kind: CellKind, edges_per_node: int) -> Cell:
    values = np.asarray(alphas[kind], np.float64)
    expected = (space.num_edges, space.width(kind))
    if values.shape != expected:
        raise InputError(f"the alphas of the {kind} cell have shape {values.shape}; this space needs {expected}")
    rows = [(row[: len(names)], names) for row, names in zip(values, space.operations(kind))]
    if not all(np.all(np.isfinite(row)) for row, _ in rows):
        raise InputError(f"the alphas of the {kind} cell are not all finite; use an earlier checkpoint of the search")
    chosen = [_strongest_operation(row, names) for row, names in rows]
    cell = []
    for target in range(INPUT_STATES, INPUT_STATES + space.nodes):
        incoming = [
            (strength, name, source) for (strength, name), (source, node) in zip(chosen, space.edges) if node == target
        ]
        incoming.sort(key=lambda edge: -edge[0])
        cell += [(name, source) for _, name, source in incoming[:edges_per_node]]
    return tuple(cell)


def _strongest_operation(row: np.ndarray, names: tuple[str, ...]) -> tuple[float, str]:
    """The logarithm of the largest softmax weight among the operations other than `none`, and the operation's name."""
    # The logarithm ranks as the weight does, and tells apart weights that would both round to 0.
    row = row - row.max()
    best = max((index for index, name in enumerate(names) if name != NONE), key=lambda index: row[index])
    return float(row[best] - np.log(np.exp(row).sum())), names[best]
