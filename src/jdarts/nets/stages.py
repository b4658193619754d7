"""Edges of mixed and of discrete cells in the order of computation: stages of sources that are available at the same time."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jdarts.genotype import INPUT_STATES, Genotype
from jdarts.operations import NONE
from jdarts.space import CellKind, SearchSpace


class OperationEdges(NamedTuple):
    """The edges of one stage that hold one operation, ordered by source, then by target.

    Attributes:
      name: the operation.
      edges: index of each edge among all edges of the cell.
      columns: column of the operation among that edge's alphas.
      sources: for each edge, its source as an index into the stage's sources.
      targets: for each edge, its node, counted from 0.
    """

    name: str
    edges: tuple[int, ...]
    columns: tuple[int, ...]
    sources: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def distinct_sources(self) -> tuple[int, ...]:
        """The sources that have such an edge, in order."""
        return tuple(sorted(set(self.sources)))

    @property
    def is_even(self) -> bool:
        """Whether every such source has the same number of edges, so that edges are a grid of sources and targets."""
        counts = {self.sources.count(source) for source in self.distinct_sources}
        return len(counts) == 1


class StageEdge(NamedTuple):
    """An edge of a stage.

    Attributes:
      number: among all edges of the cell.
      source: as an index into the stage's sources.
      target: its node, counted from 0.
    """

    number: int
    source: int
    target: int


class Stage(NamedTuple):
    """Sources that are available at the same time, and all that is computed from them.

    Attributes:
      sources: states: both inputs in the first stage, one node in each later one.
      operations: the operations on their edges, `none` left out.
      edges: all edges that leave the sources, ordered by source, then by target.
    """

    sources: tuple[int, ...]
    operations: tuple[OperationEdges, ...]
    edges: tuple[StageEdge, ...]

    @property
    def first_node(self) -> int:
        """The node that the stage finishes."""
        return self.edges[0].target


class EdgeGroup(NamedTuple):
    """The edges of a discrete cell that carry one operation from one source: they are computed together.

    Attributes:
      name: the operation.
      source: the state that they read.
      edges: position of each edge in the genotype's list.
      targets: for each edge, its node, counted from 0.
    """

    name: str
    source: int
    edges: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def key(self) -> str:
        """The name of the group's weights."""
        return f"{self.name}_of_{self.source}"


def discrete_stages(genotype: Genotype, kind: CellKind) -> tuple[tuple[EdgeGroup, ...], ...]:
    """The edges of a discrete cell by stage: those that leave both inputs, then those of each node but the last.

    After stage `i` node `i` has all that it sums.
    """
    nodes = genotype.nodes(kind)
    edges = [(name, source, node) for node, incoming in enumerate(nodes) for name, source in incoming]
    sources = (tuple(range(INPUT_STATES)), *((INPUT_STATES + node,) for node in range(len(nodes) - 1)))
    return tuple(tuple(_groups(edges, stage)) for stage in sources)


def _groups(edges: list[tuple[str, int, int]], sources: tuple[int, ...]) -> Iterator[EdgeGroup]:
    for source in sources:
        for name in dict.fromkeys(name for name, read, _ in edges if read == source):
            members = [position for position, edge in enumerate(edges) if edge[:2] == (name, source)]
            yield EdgeGroup(name, source, tuple(members), tuple(edges[position][2] for position in members))


def stages(space: SearchSpace, kind: CellKind) -> Iterator[Stage]:
    """The stages of a cell. The last node has no outgoing edge, so a cell of `N` nodes has `N` stages."""
    inputs = tuple(range(INPUT_STATES))
    later = range(INPUT_STATES, INPUT_STATES + space.nodes - 1)
    for sources in (inputs, *((state,) for state in later)):
        edges = sorted(
            (sources.index(source), target, number)
            for number, (source, target) in enumerate(space.edges)
            if source in sources
        )
        leaving = tuple(StageEdge(number, source, target - INPUT_STATES) for source, target, number in edges)
        yield Stage(sources, tuple(_operation_edges(space.operations(kind), leaving)), leaving)


def _operation_edges(operations: Sequence[Sequence[str]], edges: Sequence[StageEdge]) -> Iterator[OperationEdges]:
    for name in dict.fromkeys(name for edge in edges for name in operations[edge.number] if name != NONE):
        holders = [edge for edge in edges if name in operations[edge.number]]
        yield OperationEdges(
            name=name,
            edges=tuple(edge.number for edge in holders),
            columns=tuple(operations[edge.number].index(name) for edge in holders),
            sources=tuple(edge.source for edge in holders),
            targets=tuple(edge.target for edge in holders),
        )
