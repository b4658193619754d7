"""Search spaces as data: the candidate operations of each edge, the number of nodes, the states of the output."""

import dataclasses
import math
from collections.abc import Collection, Iterable, Sequence
from numbers import Integral
from typing import Literal

from jdarts.errors import InputError, did_you_mean, shortened, shown
from jdarts.genotype import INPUT_STATES
from jdarts.operations import (
    ACTIVATIONS,
    NONE,
    OPERATIONS,
    known_operations,
    searchable_activations,
    searchable_operations,
)
from jdarts.rich_forms import html_of

CellKind = Literal["normal", "reduce"]
CELL_KINDS: tuple[CellKind, ...] = ("normal", "reduce")
#: The kinds of cells in words, for messages, tables and drawings.
CELL_NAMES = {"normal": "normal cell", "reduce": "reduction cell", "recurrent": "recurrent cell"}

#: The number of cells of the deepest network.
MAX_CELLS = 256

#: The eight candidate operations of the paper's convolutional space, in the order of the reference implementation.
DARTS_PRIMITIVES = (NONE, *(row.name for row in OPERATIONS.values() if row.in_paper))

#: The five candidate operations of the paper's recurrent space, in the order of the reference implementation.
RECURRENT_PRIMITIVES = (NONE, *(row.name for row in ACTIVATIONS.values() if row.in_paper))


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """A convolutional search space: the candidate operations of every edge of both cells (paper section 2.1).

    A space of networks without reduction cells has none in `reduce`, and one of networks of 1 or 2 cells, which are all reduction
    cells, none in `normal`.

    Edges are ordered by target node, then by source: node 0 from states 0, 1; node 1 from states 0, 1, 2; and so on.
    Sequences of any kind are accepted and stored as tuples.

    Attributes:
      normal: operations per edge of the normal cell, `E` tuples of names. Lists may differ in length.
      reduce: operations per edge of the reduction cell, `E` tuples of names.
      concat: states concatenated into a cell's output; all nodes if it is empty.

    Raises:
      InputError: a number of edges that is not 2 + 3 + …, cells of two such numbers, an unknown or repeated operation, an edge
        that has nothing but `none`, or a concatenation of states that are not nodes.
    """

    normal: tuple[tuple[str, ...], ...]
    reduce: tuple[tuple[str, ...], ...]
    concat: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for kind in CELL_KINDS:
            operations = tuple(tuple(edge) for edge in getattr(self, kind))
            for index, edge in enumerate(operations):
                _check_edge(f"the {kind} cell", index, edge, searchable_operations())
            object.__setattr__(self, kind, operations)
        if self.normal and self.reduce and len(self.normal) != len(self.reduce):
            raise InputError(
                f"search space: {len(self.normal)} edges in the normal cell, {len(self.reduce)} in the reduction cell; "
                "give both the same number, or none to one of them"
            )
        states = range(INPUT_STATES, INPUT_STATES + self.nodes)
        object.__setattr__(self, "concat", _checked_concat(self.concat, states))

    def _repr_html_(self) -> str:
        return html_of(self)

    @property
    def kinds(self) -> tuple[CellKind, ...]:
        """The kinds of cells that the space has."""
        return tuple(kind for kind in CELL_KINDS if self.operations(kind))

    @property
    def num_edges(self) -> int:
        """Number of edges `E` of a cell."""
        return len(self.normal or self.reduce)

    @property
    def nodes(self) -> int:
        """Number of nodes `N` of a cell, its two inputs not counted."""
        return _num_nodes(self.num_edges, INPUT_STATES)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """`(source, target)` states of every edge, in order."""
        targets = range(INPUT_STATES, INPUT_STATES + self.nodes)
        return tuple((source, target) for target in targets for source in range(target))

    @property
    def incoming(self) -> tuple[tuple[int, ...], ...]:
        """The edges into each node, by their places in `edges`."""
        numbers = range(INPUT_STATES, INPUT_STATES + self.nodes)
        return tuple(tuple(edge for edge, (_, target) in enumerate(self.edges) if target == node) for node in numbers)

    def operations(self, kind: CellKind) -> tuple[tuple[str, ...], ...]:
        """Operations per edge of the cell of this kind."""
        return self.normal if kind == "normal" else self.reduce

    def width(self, kind: CellKind) -> int:
        """The longest list of operations `O` among the edges: the alphas of this kind have shape `[E, O]`."""
        return max(len(edge) for edge in self.operations(kind))


def uniform_space(
    primitives: Iterable[str] = DARTS_PRIMITIVES,
    *,
    nodes: int = 4,
    concat: Iterable[int] = (),
    kinds: Collection[CellKind] = CELL_KINDS,
) -> SearchSpace:
    """A space in which every edge of every cell has the same candidates.

    Args:
      primitives: candidate operations; the default is the paper's eight.
      nodes: number of nodes `N` of a cell.
      concat: states concatenated into a cell's output; all nodes if it is empty.
      kinds: of the cells that the space has.

    Raises:
      InputError: no node, or what `SearchSpace` refuses.
    """
    if nodes < 1:
        raise InputError(f"search space: {nodes} nodes; give 1 or more")
    edge = tuple(primitives)
    edges = (edge,) * sum(INPUT_STATES + node for node in range(nodes))
    return SearchSpace(**{kind: edges if kind in kinds else () for kind in CELL_KINDS}, concat=tuple(concat))


def darts_space() -> SearchSpace:
    """The paper's convolutional space: 8 primitives on each of 14 edges, 4 nodes (section 3.1.1)."""
    return uniform_space()


@dataclasses.dataclass(frozen=True)
class RecurrentSpace:
    """A recurrent search space: the candidate operations of every edge of the cell (paper sections 2.1 and 3.1.2).

    State 0 is made of the input and the last hidden state, node `i` reads the states 0 to `i` and makes state `i + 1`. Edges
    are ordered by target node, then by source. Sequences of any kind are accepted and stored as tuples.

    Attributes:
      recurrent: operations per edge, `E` tuples of names. Lists may differ in length.
      concat: states whose mean is the cell's output; all nodes if it is empty.

    Raises:
      InputError: a number of edges that is not 1 + 2 + …, an unknown or repeated operation, an edge that has nothing
        but `none`, or a mean of states that are not nodes.
    """

    recurrent: tuple[tuple[str, ...], ...]
    concat: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        operations = tuple(tuple(edge) for edge in self.recurrent)
        for index, edge in enumerate(operations):
            _check_edge("the recurrent cell", index, edge, searchable_activations())
        object.__setattr__(self, "recurrent", operations)
        object.__setattr__(self, "concat", _checked_concat(self.concat, range(1, self.nodes + 1)))

    def _repr_html_(self) -> str:
        return html_of(self)

    @property
    def num_edges(self) -> int:
        """Number of edges `E` of the cell."""
        return len(self.recurrent)

    @property
    def nodes(self) -> int:
        """Number of nodes `N` of the cell, state 0 not counted."""
        return _num_nodes(self.num_edges, 1)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """`(source, target)` states of every edge, in order."""
        return tuple((source, target) for target in range(1, self.nodes + 1) for source in range(target))

    @property
    def width(self) -> int:
        """The longest list of operations `O` among the edges: the alphas have shape `[E, O]`."""
        return max(len(edge) for edge in self.recurrent)

    @property
    def discrete_cells(self) -> int:
        """Number of discrete cells in the space: every node takes one edge and one operation other than `none`."""
        choices = [0] * self.nodes
        for (_, target), operations in zip(self.edges, self.recurrent):
            choices[target - 1] += len(set(operations) - {NONE})
        return math.prod(choices)


@dataclasses.dataclass(frozen=True)
class ChoiceSpace:
    """The choices of a user's network, as tables of alphas see them.

    Attributes:
      tables: for each choice its name, and the names of its candidates once for every row of its table.
    """

    tables: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]


def recurrent_space(
    primitives: Iterable[str] = RECURRENT_PRIMITIVES, *, nodes: int = 8, concat: Iterable[int] = ()
) -> RecurrentSpace:
    """A recurrent space in which every edge has the same candidates; the defaults are the paper's (section 3.1.2).

    Args:
      primitives: candidate operations; the default is the paper's five.
      nodes: number of nodes `N`, state 0 not counted.
      concat: states whose mean is the cell's output; all nodes if it is empty.

    Raises:
      InputError: no node, or what `RecurrentSpace` refuses.
    """
    if nodes < 1:
        raise InputError(f"search space: {nodes} nodes; give 1 or more")
    return RecurrentSpace((tuple(primitives),) * (nodes * (nodes + 1) // 2), tuple(concat))


def check_operations(names: Iterable[str], known: Sequence[str]) -> None:
    """Checks the names of candidate operations, from --operations.

    Raises:
      InputError: an unknown name; the message has the nearest known one.
    """
    for name in names:
        if name not in known:
            raise InputError(
                f"--operations names {name}; {did_you_mean(name, known)}The operations are {', '.join(known)}; for one of your "
                "own give --plugin FILE"
            )


def check_mixture(names: Sequence[str]) -> None:
    """Checks that an edge has several candidates, so that its alphas matter.

    Raises:
      InputError: a single operation.
    """
    if len(names) < 2:
        raise InputError(
            f"--operations names {' '.join(names)} alone, whose weight on every edge is 1 whatever the alphas are; give two "
            "operations or more"
        )


def reduction_cells(num_cells: int) -> tuple[int, ...]:
    """Indices of the reduction cells: at 1/3 and 2/3 of the depth (paper section 3.1.1).

    Raises:
      InputError: fewer than one cell.
    """
    if num_cells < 1:
        raise InputError(f"{num_cells} cells; a network needs 1 or more")
    return tuple(sorted({num_cells // 3, 2 * num_cells // 3}))


def cell_kinds(num_cells: int, kinds: Collection[CellKind] = CELL_KINDS) -> tuple[CellKind, ...]:
    """The kind of every cell of a network, in order.

    Args:
      num_cells: number of cells.
      kinds: of the cells that there are. A network of cells without a reduction cell has none; one without a normal cell has
        only the reduction cells of `num_cells` cells.

    Raises:
      InputError: fewer than one cell, or normal cells in the network where there are none.
    """
    reductions = reduction_cells(num_cells)
    if "reduce" not in kinds:
        reductions = ()
    found: tuple[CellKind, ...] = tuple("reduce" if index in reductions else "normal" for index in range(num_cells))
    if "normal" in found and "normal" not in kinds:
        raise InputError(
            f"{num_cells} cells, and there is no normal cell for the network; give 1 or 2 cells, which are reduction cells"
        )
    return found


def _num_nodes(edges: int, first: int) -> int:
    """The number of nodes with `edges` edges in all, if the first has `first` edges and each later one has one more."""
    nodes, filled = 0, 0
    while filled < edges:
        filled += first + nodes
        nodes += 1
    if filled != edges or not nodes:
        series = ", ".join(str(first + node) for node in range(3))
        raise InputError(f"search space: {edges} edges do not fill nodes of {series}, … edges")
    return nodes


def _checked_concat(concat: Iterable[int], nodes: range) -> tuple[int, ...]:
    concat = tuple(concat) or tuple(nodes)
    are_nodes = all(isinstance(state, Integral) and state in nodes for state in concat)
    if not are_nodes or len(set(concat)) != len(concat):
        raise InputError(
            f"search space: concat is {shown(concat)}; give each of the node states {nodes.start} to {nodes.stop - 1} "
            "at most once"
        )
    return tuple(int(state) for state in concat)


def _check_edge(cell: str, index: int, edge: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in edge:
        if name not in known:
            raise InputError(
                f"search space: unknown operation {shown(name, 24)} on edge {index} of {cell}; {known_operations(name, known)}"
            )
    if len(set(edge)) != len(edge):
        raise InputError(f"search space: edge {index} of {cell} names an operation twice: {shortened(', '.join(edge))}")
    if not set(edge) - {NONE}:
        raise InputError(f"search space: edge {index} of {cell} has no operation to choose from")
