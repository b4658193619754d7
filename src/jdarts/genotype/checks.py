"""Checks of discrete cells, whose messages show the wrong value and how to mend it."""

from collections.abc import Collection, Iterable, Mapping, Set
from numbers import Integral
from typing import Any

from jdarts.errors import InputError, shown
from jdarts.operations import NONE, OPERATIONS

INPUT_STATES = 2

_MAX_EDGES = 1000

Edge = tuple[str, int]
Cell = tuple[Edge, ...]


def num_states(cell: Cell, edges_per_node: int) -> int:
    """Number of states of a cell: its two inputs and one per node."""
    return INPUT_STATES + len(nodes_of(cell, edges_per_node))


def nodes_of(cell: Cell, edges_per_node: int) -> tuple[Cell, ...]:
    """Splits a cell's edges into those of each node, in order: `min(edges_per_node, i + 2)` for node `i`."""
    nodes: list[Cell] = []
    start = 0
    while start < len(cell):
        stop = start + min(edges_per_node, INPUT_STATES + len(nodes))
        nodes.append(cell[start:stop])
        start = stop
    return tuple(nodes)


def checked_cell(kind: str, edges: object, edges_per_node: int, operations: Collection[str]) -> Cell:
    """The edges of a convolutional cell, which fill whole nodes and read earlier states."""
    cell = tuple(checked_edge(kind, edge, operations) for edge in checked_edges(kind, edges))
    nodes = nodes_of(cell, edges_per_node)
    last = INPUT_STATES + len(nodes) - 1
    if not nodes or len(nodes[-1]) < min(edges_per_node, last):
        raise InputError(
            f"genotype: {kind} has {len(cell)} edges, which do not fill whole nodes of {shown(edges_per_node)} edges; "
            "add or remove edges"
        )
    for state, node in enumerate(nodes, INPUT_STATES):
        for edge in node:
            check_source(kind, edge, state)
    return cell


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
        raise InputError(f"genotype: unknown operation {shown(name, 24)} in {kind}; known are {', '.join(operations)}")
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
    states = range(concat[0], concat[-1] + 1)
    return repr(states) if tuple(states) == concat else repr(list(concat))


def _canonical_name(name: str) -> str:
    """The name in jdarts of an operation that has another name in another program, such as Katib."""
    return next((row.name for row in OPERATIONS.values() if name in row.aliases), name)
