"""Discrete architectures as arrays of the edges' operations: drawn at random, mutated, and as mixtures and genotypes."""

import dataclasses
import itertools

import jax
import numpy as np

from jdarts.errors import InputError
from jdarts.genotype import INPUT_STATES, Edge, Genotype, genotype_of_nodes
from jdarts.operations import NONE
from jdarts.space import CellKind, ChoiceSpace, SearchSpace

#: int32 `[cells, E]`: for each kind of cell and edge the column of its operation, or `UNUSED`.
Architecture = np.ndarray
UNUSED = -1

#: NAS-Bench-201's operations, in its order.
NAS_BENCH_201_OPERATIONS = (NONE, "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


@dataclasses.dataclass(frozen=True)
class Architectures:
    """A space of discrete architectures.

    Attributes:
      operations: for each kind of cell and edge its operations, `[cells][E]` tuples of names.
      targets: the node of each edge; nodes are numbered without gaps.
      inputs: edges that each node uses, or all if it has fewer; None for all edges of every node.
      none: whether `none` may be chosen.
      tables: of a mixture, each with its name and its number of edges, in the order of cells and edges.
    """

    operations: tuple[tuple[tuple[str, ...], ...], ...]
    targets: tuple[int, ...]
    inputs: int | None
    none: bool
    tables: tuple[tuple[str, int], ...]

    @property
    def nodes(self) -> tuple[tuple[int, ...], ...]:
        """The edges of each node, in order."""
        return tuple(
            tuple(edge for edge, target in enumerate(self.targets) if target == node)
            for node in sorted(set(self.targets))
        )

    @property
    def width(self) -> int:
        """The longest list of operations."""
        return max(len(names) for cell in self.operations for names in cell)

    def columns(self, cell: int, edge: int) -> list[int]:
        """The columns of an edge's operations that may be chosen."""
        return [column for column, name in enumerate(self.operations[cell][edge]) if self.none or name != NONE]

    def used(self, node: tuple[int, ...]) -> int:
        """Number of edges that a node uses, of those that it has."""
        return len(node) if self.inputs is None else min(self.inputs, len(node))


def darts_architectures(space: SearchSpace, *, edges_per_node: int = 2, none: bool = False) -> Architectures:
    """The pairs of cells of a search space.

    Args:
      space: the search space.
      edges_per_node: edges that each node keeps.
      none: whether a kept edge may have `none`, as in random search with weight sharing.

    Raises:
      InputError: fewer than one edge per node.
    """
    if edges_per_node < 1:
        raise InputError(f"{edges_per_node} edges per node; give 1 or more (the paper keeps 2)")
    operations = tuple(space.operations(kind) for kind in space.kinds)
    targets = tuple(target - INPUT_STATES for _, target in space.edges)
    tables = tuple((kind, len(targets)) for kind in space.kinds)
    return Architectures(operations, targets, edges_per_node, none, tables)


def nas_bench_201_architectures() -> Architectures:
    """NAS-Bench-201's cell: six edges to three nodes, all of them used, `none` among their operations."""
    return Architectures(((NAS_BENCH_201_OPERATIONS,) * 6,), (0, 1, 1, 2, 2, 2), None, True, (("cell", 6),))


def choice_architectures(space: ChoiceSpace) -> Architectures:
    """The decisions of a network with choices: one cell, in which every row of every choice is the only edge of a node.

    Args:
      space: the choices, each of which keeps one candidate.
    """
    rows = tuple(itertools.chain.from_iterable(candidates for _, candidates in space.tables))
    tables = tuple((name, len(candidates)) for name, candidates in space.tables)
    return Architectures((rows,), tuple(range(len(rows))), None, True, tables)


def draws(key: jax.Array) -> np.random.RandomState:
    """Random numbers of a key on the host, the same in every version of NumPy."""
    return np.random.RandomState(np.asarray(jax.random.key_data(key)).ravel())


def random_architecture(architectures: Architectures, key: jax.Array) -> Architecture:
    """Draws the used edges of every node and their operations, all uniformly."""
    random = draws(key)
    drawn = np.full((len(architectures.operations), len(architectures.targets)), UNUSED, np.int32)
    for cell in range(len(drawn)):
        for node in architectures.nodes:
            for place in random.permutation(len(node))[: architectures.used(node)]:
                columns = architectures.columns(cell, node[place])
                drawn[cell, node[place]] = columns[random.randint(len(columns))]
    return drawn


def mutated_operation(architectures: Architectures, architecture: Architecture, key: jax.Array) -> Architecture:
    """Another operation on one edge: of a cell and a node at random, on one of its used edges.

    The edges of smaller nodes are more probable. Where a chosen edge has no other operation, the architecture stays.
    """
    random = draws(key)
    cell = random.randint(len(architecture))
    node = architectures.nodes[random.randint(len(architectures.nodes))]
    used = [edge for edge in node if architecture[cell, edge] != UNUSED]
    edge = used[random.randint(len(used))]
    others = [column for column in architectures.columns(cell, edge) if column != architecture[cell, edge]]
    return with_operation(architecture, cell, edge, others[random.randint(len(others))]) if others else architecture


def mutated_input(architectures: Architectures, architecture: Architecture, key: jax.Array) -> Architecture:
    """Another input of one node, with the operation of the one that it replaces.

    If the new edge does not have that operation, one of its operations is drawn. Where every node uses all its edges, the
    architecture stays.
    """
    random = draws(key)
    nodes = [node for node in architectures.nodes if architectures.used(node) < len(node)]
    if not nodes:
        return architecture
    cell, node = random.randint(len(architecture)), nodes[random.randint(len(nodes))]
    used = [edge for edge in node if architecture[cell, edge] != UNUSED]
    old = used[random.randint(len(used))]
    free = [edge for edge in node if edge not in used]
    new = free[random.randint(len(free))]
    name = architectures.operations[cell][old][architecture[cell, old]]
    columns = architectures.columns(cell, new)
    same = [column for column in columns if architectures.operations[cell][new][column] == name]
    column = same[0] if same else columns[random.randint(len(columns))]
    return with_operation(with_operation(architecture, cell, old, UNUSED), cell, new, column)


def with_operation(architecture: Architecture, cell: int, edge: int, column: int) -> Architecture:
    """The architecture with another operation on one edge."""
    changed = architecture.copy()
    changed[cell, edge] = column
    return changed


def one_hot_mixture(architectures: Architectures, architecture: Architecture) -> dict[str, np.ndarray]:
    """A mixture for the search network, `{kind: [E, O]}`: 1 for the operations of used edges, 0 for all else.

    The kinds are the names of `architectures.tables`, which for a network with choices are those of the choices.
    """
    columns = architecture.ravel()
    lengths = [len(names) for cell in architectures.operations for names in cell]
    found, first = {}, 0
    for kind, edges in architectures.tables:
        part = slice(first, first + edges)
        found[kind] = (columns[part, None] == np.arange(max(lengths[part]))).astype(np.float32)
        first += edges
    return found


def genotype_of(architectures: Architectures, architecture: Architecture, space: SearchSpace) -> Genotype:
    """The cells; edges with `none` are left out, and so are nodes without edges and what reads them.

    Raises:
      InputError: a cell has no edge to its output.
    """
    nodes: dict[CellKind, list[list[Edge]]] = {
        kind: [
            [(operations[edge][row[edge]], space.edges[edge][0]) for edge in node if row[edge] != UNUSED]
            for node in architectures.nodes
        ]
        for kind, row, operations in zip(space.kinds, architecture, architectures.operations, strict=True)
    }
    without_none: dict[CellKind, list[list[Edge]]] = {
        kind: [[edge for edge in node if edge[0] != NONE] for node in cell] for kind, cell in nodes.items()
    }
    return genotype_of_nodes(without_none, space.concat, "none is on all of them; take another architecture")
