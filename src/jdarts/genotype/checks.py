"""Checks of discrete cells, whose messages show the wrong value and how to mend it."""

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from numbers import Integral
from typing import Any

from jdarts.errors import InputError, shown
from jdarts.operations import NONE, OPERATIONS, known_operations

INPUT_STATES = 2

_MAX_EDGES = 1000

Edge = tuple[str, int]
Cell = tuple[Edge, ...]
#: Number of edges of every node: one for all nodes, or one for each.
Counts = int | Sequence[int]


def num_states(cell: Cell, edges_per_node: Counts) -> int:
    """Number of states of a cell: its two inputs and one per node."""
    return INPUT_STATES + len(nodes_of(cell, edges_per_node))


def nodes_of(cell: Cell, edges_per_node: Counts) -> tuple[Cell, ...]:
    """Splits a cell's edges into those of each node, in order.

    Args:
      cell: the edges.
      edges_per_node: a number, of which node `i` has at most `i + 2` edges; or a number for each node.
    """
    nodes: list[Cell] = []
    start = 0
    if not isinstance(edges_per_node, int):
        for count in edges_per_node:
            nodes.append(cell[start : start + count])
            start += count
        return tuple(nodes)
    while start < len(cell):
        stop = start + min(edges_per_node, INPUT_STATES + len(nodes))
        nodes.append(cell[start:stop])
        start = stop
    return tuple(nodes)


def checked_cell(kind: str, edges: object, edges_per_node: Counts, operations: Collection[str]) -> Cell:
    """The edges of a convolutional cell, which fill whole nodes and read earlier states that have inputs."""
    cell = tuple(checked_edge(kind, edge, operations) for edge in checked_edges(kind, edges))
    nodes = nodes_of(cell, edges_per_node)
    if not _fills(nodes, cell, edges_per_node):
        raise InputError(
            f"genotype: {kind} has {len(cell)} edges, which do not fill whole nodes of {shown(edges_per_node)} edges; "
            "add or remove edges"
        )
    for state, node in enumerate(nodes, INPUT_STATES):
        for edge in node:
            check_source(kind, edge, state)
            check_has_inputs(kind, shown(edge, 40), edge[1], nodes)
    return cell


def _fills(nodes: Sequence[Cell], cell: Cell, edges_per_node: Counts) -> bool:
    if isinstance(edges_per_node, int):
        return bool(nodes) and len(nodes[-1]) == min(edges_per_node, INPUT_STATES + len(nodes) - 1)
    return bool(cell) and len(cell) == sum(edges_per_node)


def check_has_inputs(kind: str, what: str, state: int, nodes: Sequence[Cell]) -> None:
    """Checks that a state which something reads is an input of the cell, or a node that has inputs."""
    if state >= INPUT_STATES and not nodes[state - INPUT_STATES]:
        raise InputError(f"genotype: {what} in {kind} reads state {state}, a node without inputs; leave it out")


def checked_counts(value: object) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The number of edges of every node of both cells."""
    counts = tuple(
        tuple(checked_sequence("edges_per_node", cell)) for cell in checked_sequence("edges_per_node", value)
    )
    numbers = [count for cell in counts for count in cell]
    if len(counts) != 2 or not all(is_index(count) and 0 <= count <= _MAX_EDGES for count in numbers):
        raise InputError(
            f"genotype: edges_per_node is {shown(value)}; give a whole number of 1 or more, or the number of edges of each node, "
            "first of the normal cell, then of the reduction cell"
        )
    normal, reduce = (tuple(map(int, cell)) for cell in counts)
    return normal, reduce


def check_source(kind: str, edge: Edge, state: int) -> None:
    """Checks that the source of an edge to a state is an earlier state."""
    name, source = edge
    if not 0 <= source < state:
        raise InputError(
            f"genotype: ({name!r}, {shown(source)}) in {kind} leads to state {state}; "
            f"its source must be a state from 0 to {state - 1}"
        )


def checked_edge(kind: str, edge: object, operations: Collection[str]) -> Edge:
    """A pair of an operation, by its name in jdarts, and a whole number."""
    pair = checked_sequence(f"an edge of {kind}", edge)
    if len(pair) == 3 and isinstance(pair[2], float):
        del pair[2]  # The weight that GDAS writes.
    if len(pair) != 2:
        raise InputError(f"genotype: {shown(edge)} in {kind} is not a pair (operation, source)")
    name, source = pair
    name = _canonical_name(name) if isinstance(name, str) else name
    if isinstance(name, str) and name == NONE:
        raise InputError(
            f"genotype: unknown operation 'none' in {kind}; known are {', '.join(list(operations)[:2])}, …: none means "
            "no edge, and every edge of a cell has an operation"
        )
    if not isinstance(name, str) or name not in operations:
        raise InputError(
            f"genotype: unknown operation {shown(name, 24)} in {kind}; {known_operations(name, operations)}"
        )
    if not is_index(source):
        raise InputError(f"genotype: ({name!r}, {shown(source)}) in {kind}; its source must be a whole number")
    return str(name), int(source)


def checked_concat(name: str, concat: object, states: int) -> tuple[int, ...]:
    """Some of a cell's states, each once."""
    indices = checked_sequence(name, concat)
    if not indices or not all(is_index(index) and 0 <= index < states for index in indices):
        raise InputError(f"genotype: {name} is {shown(concat)}; give states from 0 to {states - 1}")
    if len(set(indices)) != len(indices):
        raise InputError(f"genotype: {name} is {shown(concat)}; give each state once")
    return tuple(int(index) for index in indices)


def edges_by_node(edges: object) -> list[list[Any]] | None:
    """The edges of each node, if each node has a separate list; None if one list has all edges."""
    if not isinstance(edges, (list, tuple)) or not edges or not all(_is_node(node) for node in edges):
        return None
    return [list(node) for node in edges]


def _is_node(value: object) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(edge, (list, tuple)) for edge in value)


def checked_edges(kind: str, edges: object) -> list[Any]:
    """The edges of a cell, not more than a cell may have."""
    edges = checked_sequence(kind, edges)
    if len(edges) > _MAX_EDGES:
        raise InputError(f"genotype: {kind} has {len(edges):,} edges; a cell has at most {_MAX_EDGES:,}")
    return edges


def checked_sequence(what: str, value: object) -> list[Any]:
    """The values of an ordered sequence."""
    if isinstance(value, (str, bytes, Mapping, Set)) or not isinstance(value, Iterable):
        raise InputError(f"genotype: {what} is {shown(value)}; expected a list")
    return list(value)


def is_index(value: object) -> bool:
    """Whether this is a whole number, Python's or NumPy's."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def concat_text(concat: tuple[int, ...]) -> str:
    """States as the reference implementation prints them: consecutive ones as a range."""
    states = range(concat[0], concat[-1] + 1) if concat else range(0)
    return repr(states) if concat and tuple(states) == concat else repr(list(concat))


def _canonical_name(name: str) -> str:
    """The name in jdarts of an operation that has another name in another program, such as Katib."""
    return next((row.name for row in OPERATIONS.values() if name in row.aliases), name)
