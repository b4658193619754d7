"""Genotypes drawn at random from a search space: the baseline of every search (paper section 3.3, "random")."""

import numpy as np

from jdarts.errors import InputError
from jdarts.genotype import INPUT_STATES, Cell, Genotype
from jdarts.operations import NONE
from jdarts.space import CellKind, SearchSpace


def sample_genotype(space: SearchSpace, seed: int, *, edges_per_node: int = 2) -> Genotype:
    """Draws a pair of cells such as a search in this space might derive, each with the same probability.

    Every node keeps `edges_per_node` of its edges, all where it has fewer; every kept edge carries one of its operations
    other than `none`. Both are drawn uniformly and without regard to the other edges.

    Args:
      space: the search space.
      seed: the same seed gives the same cells, in every version of numpy.
      edges_per_node: edges kept for each node; the paper keeps 2 in convolutional cells.

    Raises:
      InputError: fewer than one edge per node, or a seed that 32 bits do not hold.
    """
    if edges_per_node < 1:
        raise InputError(f"{edges_per_node} edges per node; give 1 or more (the paper keeps 2)")
    if not 0 <= seed < 2**32:
        raise InputError(f"seed is {seed}; give a number from 0 to below 2^32")
    # numpy promises the numbers of RandomState for ever, those of default_rng it does not.
    draws = np.random.RandomState(seed)
    return Genotype(
        normal=_drawn(draws, space, "normal", edges_per_node),
        normal_concat=space.concat,
        reduce=_drawn(draws, space, "reduce", edges_per_node),
        reduce_concat=space.concat,
        edges_per_node=edges_per_node,
    )


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
