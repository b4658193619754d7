"""What a discrete cell must be: every value checked, and what is wrong shown with the mend."""

from collections.abc import Collection, Iterable, Mapping, Set
from numbers import Integral
from typing import Any

from jdarts.errors import InputError, shown
from jdarts.operations import NONE, OPERATIONS

INPUT_STATES = 2

_MOST_EDGES = 1000

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
    """Checks that an edge that leads to a state comes from an earlier one."""
    name, source = edge
    if not 0 <= source < state:
        raise InputError(
            f"genotype: ({name!r}, {shown(source)}) in {kind} leads to state {state}; "
            f"its source must be a state from 0 to {state - 1}"
        )


def checked_edge(kind: str, edge: object, operations: Collection[str]) -> Edge:
    """A pair of an operation, by our name, and a whole number."""
    pair = checked_sequence(f"an edge of {kind}", edge)
    if len(pair) != 2:
        raise InputError(f"genotype: {shown(edge)} in {kind} is not a pair (operation, source)")
    name, source = pair
    name = _own_name(name) if isinstance(name, str) else name
    if isinstance(name, str) and name == NONE:
        raise InputError(
            f"genotype: unknown operation 'none' in {kind}; known are {', '.join(list(operations)[:2])}, …: none means "
            "that there is no edge, and every edge of a cell carries an operation"
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


def nodes_given(edges: object) -> list[list[Any]] | None:
    """The edges of each node, where each node has a list of its own; None where all edges stand in one list."""
    if not isinstance(edges, (list, tuple)) or not edges or not all(_is_node(node) for node in edges):
        return None
    return [list(node) for node in edges]


def _is_node(value: object) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(edge, (list, tuple)) for edge in value)


def checked_edges(kind: str, edges: object) -> list[Any]:
    """The edges of a cell, of a number that a cell may have."""
    edges = checked_sequence(kind, edges)
    if len(edges) > _MOST_EDGES:
        raise InputError(f"genotype: {kind} has {len(edges):,} edges; a cell has at most {_MOST_EDGES:,}")
    return edges


def checked_sequence(what: str, value: object) -> list[Any]:
    """The values of a sequence that has an order."""
    if isinstance(value, (str, bytes, Mapping, Set)) or not isinstance(value, Iterable):
        raise InputError(f"genotype: {what} is {shown(value)}; expected a list")
    return list(value)


def is_index(value: object) -> bool:
    """Whether this is a whole number, Python's or NumPy's."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def concat_text(concat: tuple[int, ...]) -> str:
    """States as the reference implementation prints them: a range where they are one."""
    run = range(concat[0], concat[-1] + 1)
    return repr(run) if tuple(run) == concat else repr(list(concat))


def _own_name(name: str) -> str:
    """Our name of an operation that another program, as Katib, calls otherwise."""
    return next((row.name for row in OPERATIONS.values() if name in row.aliases), name)
