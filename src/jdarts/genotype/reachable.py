"""Genotypes of chosen edges, without those that nothing reaches."""

from collections.abc import Mapping, Sequence

from jdarts.errors import NoCellsError
from jdarts.genotype.checks import INPUT_STATES, Cell, Edge
from jdarts.genotype.convolutional import KINDS, Genotype, Kind


def genotype_of_nodes(
    nodes: Mapping[Kind, Sequence[Sequence[Edge]]], concat: Sequence[int], none_left: str
) -> Genotype:
    """The genotype of the edges that are chosen for each node.

    A node without edges does not join the output, and edges that read it are left out.

    Args:
      nodes: for each kind of cell that there is the edges of each node.
      concat: the states that join the output if they have edges: nodes of every cell.
      none_left: why a cell may have no edge left, for the message.

    Raises:
      NoCellsError: a cell has no edge to its output.
    """
    cells: dict[Kind, list[Cell]] = {}
    joined: dict[Kind, tuple[int, ...]] = {}
    for kind, chosen in nodes.items():
        kept: list[Cell] = []
        for edges in chosen:
            kept.append(tuple(edge for edge in edges if edge[1] < INPUT_STATES or kept[edge[1] - INPUT_STATES]))
        cells[kind], joined[kind] = kept, tuple(state for state in concat if kept[state - INPUT_STATES])
        if not joined[kind]:
            raise NoCellsError(f"the {kind} cell has no edge to its output: {none_left}")
    normal, reduce = (tuple(edge for node in cells.get(kind, ()) for edge in node) for kind in KINDS)
    counts = tuple(map(len, cells.get("normal", ()))), tuple(map(len, cells.get("reduce", ())))
    return Genotype(normal, joined.get("normal", ()), reduce, joined.get("reduce", ()), counts)
