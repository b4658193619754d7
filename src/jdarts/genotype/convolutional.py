"""Genotypes of convolutional cells, as frozen validated data."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal

from jdarts.errors import InputError, shown
from jdarts.genotype.checks import (
    INPUT_STATES,
    Cell,
    Counts,
    check_has_inputs,
    checked_cell,
    checked_concat,
    checked_counts,
    concat_text,
    edges_by_node,
    is_index,
    nodes_of,
)
from jdarts.operations import OPERATIONS
from jdarts.rich_forms import svg_of

Kind = Literal["normal", "reduce"]
KINDS: tuple[Kind, ...] = ("normal", "reduce")


class _NotGiven(int):
    """The default number of edges per node; a separate list for each node overrides it."""


@dataclasses.dataclass(frozen=True)
class Genotype:
    """A pair of discrete convolutional cells, as in the reference implementation (paper section 2.4).

    One of the two may be absent, without edges and without states in its concatenation: networks of cells without a reduction
    cell have none, and networks of 1 or 2 cells have only reduction cells.

    States are numbered as in the paper's code: 0 is the output of the cell before the last one, 1 that of the last
    cell, 2 and up are the nodes. Node `i` has `min(edges_per_node, i + 2)` consecutive entries, each an operation and
    the state that it reads. Sequences of any kind are accepted and stored as tuples. A
    separate sequence for each node, as pt.darts and Katib print them, and Katib's names of operations are accepted too.

    Nodes may also have different numbers of edges: `edges_per_node=((2, 0, 3), (1, 2, 2))` is for three nodes of each
    cell, the normal one first. Nothing reads a node without edges, and no output joins it. Numbers that one number stands for
    are stored as that number.

    Attributes:
      normal: edges of the normal cell, `((operation, source), …)`.
      normal_concat: states whose channels are concatenated into the normal cell's output.
      reduce: edges of the reduction cell.
      reduce_concat: states whose channels are concatenated into the reduction cell's output.
      edges_per_node: edges that derivation kept for each node (the paper keeps 2), or the number of edges of each node of
        the normal cell and of the reduction cell.

    Raises:
      InputError: no edges at all, an unknown operation, a source that is not an earlier state, an edge count that does not fill
        the nodes, a concatenation of states that do not exist, or a node without edges that is read.
    """

    normal: Cell
    normal_concat: tuple[int, ...]
    reduce: Cell
    reduce_concat: tuple[int, ...]
    edges_per_node: int | tuple[tuple[int, ...], tuple[int, ...]] = _NotGiven(2)

    def __post_init__(self) -> None:
        edges_by_kind: dict[Kind, list[list[Any]] | None] = {kind: edges_by_node(getattr(self, kind)) for kind in KINDS}
        sizes: dict[Kind, list[int]] = {
            kind: [len(node) for node in given] for kind, given in edges_by_kind.items() if given is not None
        }
        object.__setattr__(self, "edges_per_node", _checked_edges_per_node(self.edges_per_node, sizes))
        for kind, given in edges_by_kind.items():
            edges = getattr(self, kind) if given is None else [edge for node in given for edge in node]
            if _is_absent(edges, getattr(self, f"{kind}_concat")):
                object.__setattr__(self, kind, ())
                object.__setattr__(self, f"{kind}_concat", ())
                continue
            cell = checked_cell(kind, edges, self._counts(kind), OPERATIONS)
            nodes = nodes_of(cell, self._counts(kind))
            concat = checked_concat(f"{kind}_concat", getattr(self, f"{kind}_concat"), INPUT_STATES + len(nodes))
            for state in concat:
                check_has_inputs(kind, f"{kind}_concat", state, nodes)
            object.__setattr__(self, kind, cell)
            object.__setattr__(self, f"{kind}_concat", concat)
        if not self.kinds:
            raise InputError("genotype: neither normal nor reduce has an edge; give the edges of one of them at least")

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of cells that the genotype has."""
        return tuple(kind for kind in KINDS if getattr(self, kind))

    def nodes(self, kind: Kind) -> tuple[Cell, ...]:
        """The edges of each node of a cell, in order."""
        return nodes_of(self.normal if kind == "normal" else self.reduce, self._counts(kind))

    def _counts(self, kind: Kind) -> Counts:
        return self.edges_per_node if isinstance(self.edges_per_node, int) else self.edges_per_node[KINDS.index(kind)]

    def _repr_svg_(self) -> str:
        return svg_of(self)

    def __str__(self) -> str:
        """The text form of the reference implementation; `parse_genotype` reads it back."""
        fields = [
            f"{kind}={list(getattr(self, kind))!r}, {kind}_concat={concat_text(getattr(self, f'{kind}_concat'))}"
            for kind in KINDS
        ]
        if self.edges_per_node != 2:
            fields.append(f"edges_per_node={self.edges_per_node}")
        return f"Genotype({', '.join(fields)})"

    def to_json(self) -> str:
        """The JSON form: an object with `normal`, `normal_concat`, `reduce`, `reduce_concat`.

        `edges_per_node` is written only if it differs from the paper's 2.
        """
        fields = dataclasses.asdict(self)
        if self.edges_per_node == 2:
            del fields["edges_per_node"]
        return json.dumps(fields)


def genotype_of_cells(
    cells: Mapping[Kind, Cell], concat: tuple[int, ...], edges_per_node: int | tuple[tuple[int, ...], tuple[int, ...]]
) -> Genotype:
    """The genotype of some kinds of cells with one output; the other kind is absent.

    Args:
      cells: the edges of each kind of cell that there is.
      concat: states whose channels are concatenated into a cell's output.
      edges_per_node: as for `Genotype`.

    Raises:
      InputError: as for `Genotype`.
    """
    fields: dict[str, Any] = {}
    for kind in KINDS:
        fields |= {kind: cells.get(kind, ()), f"{kind}_concat": concat if kind in cells else ()}
    return Genotype(**fields, edges_per_node=edges_per_node)


def _is_absent(edges: object, concat: object) -> bool:
    """Whether neither a cell nor its output has anything."""
    return all(isinstance(each, (list, tuple, range)) and not each for each in (edges, concat))


def _checked_edges_per_node(
    value: Any, sizes: Mapping[Kind, list[int]]
) -> int | tuple[tuple[int, ...], tuple[int, ...]]:
    """The number of edges per node.

    Args:
      value: as it is given.
      sizes: the number of edges of each node, of cells that have a separate sequence for each.
    """
    if isinstance(value, (list, tuple)):
        counts = checked_counts(value)
        for kind, numbers in zip(KINDS, counts):
            if tuple(sizes.get(kind, numbers)) != numbers:
                raise InputError(
                    f"genotype: {kind} has nodes of {shown(sizes[kind])[1:-1]} edges, but edges_per_node is {shown(counts)}; "
                    "give the same numbers"
                )
        largest = max(map(max, filter(None, counts)), default=0)
        regular = largest and all(list(numbers) == _regular(largest, len(numbers)) for numbers in counts)
        return largest if regular else counts
    if not is_index(value) or value < 1:
        raise InputError(f"genotype: edges_per_node is {shown(value)}; give a whole number of 1 or more")
    number = max(map(max, sizes.values())) if sizes and isinstance(value, _NotGiven) else int(value)
    for kind, numbers in sizes.items():
        if numbers != _regular(number, len(numbers)):
            raise InputError(
                f"genotype: {kind} has nodes of {shown(numbers)[1:-1]} edges; give each {number}, or as many as there are states "
                "before it, or list the numbers in edges_per_node"
            )
    return number


def _regular(edges_per_node: int, nodes: int) -> list[int]:
    return [min(edges_per_node, INPUT_STATES + node) for node in range(nodes)]
