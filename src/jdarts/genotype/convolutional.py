"""Genotypes of convolutional cells, as frozen validated data."""

import dataclasses
import json

from jdarts.errors import InputError, shown
from jdarts.genotype.checks import (
    INPUT_STATES,
    Cell,
    checked_cell,
    checked_concat,
    concat_text,
    edges_by_node,
    is_index,
    num_states,
)
from jdarts.operations import OPERATIONS


class _NotGiven(int):
    """The default number of edges per node; a separate list for each node overrides it."""


@dataclasses.dataclass(frozen=True)
class Genotype:
    """A pair of discrete convolutional cells, as in the reference implementation (paper section 2.4).

    States are numbered as in the paper's code: 0 is the output of the cell before the last one, 1 that of the last
    cell, 2 and up are the nodes. Node `i` has `min(edges_per_node, i + 2)` consecutive entries, each an operation and
    the state that it reads. Sequences of any kind are accepted and stored as tuples. A
    separate sequence for each node, as pt.darts and Katib print them, and Katib's names of operations are accepted too.

    Attributes:
      normal: edges of the normal cell, `((operation, source), …)`.
      normal_concat: states whose channels are concatenated into the normal cell's output.
      reduce: edges of the reduction cell.
      reduce_concat: states whose channels are concatenated into the reduction cell's output.
      edges_per_node: edges that derivation kept for each node (the paper keeps 2).

    Raises:
      InputError: an unknown operation, a source that is not an earlier state, an edge count that does not fill the
        nodes, or a concatenation of states that do not exist.
    """

    normal: Cell
    normal_concat: tuple[int, ...]
    reduce: Cell
    reduce_concat: tuple[int, ...]
    edges_per_node: int = _NotGiven(2)

    def __post_init__(self) -> None:
        if not is_index(self.edges_per_node) or self.edges_per_node < 1:
            raise InputError(
                f"genotype: edges_per_node is {shown(self.edges_per_node)}; give a whole number of 1 or more"
            )
        nodes = {kind: edges_by_node(getattr(self, kind)) for kind in ("normal", "reduce")}
        sizes = {kind: [len(node) for node in given] for kind, given in nodes.items() if given is not None}
        if sizes and isinstance(self.edges_per_node, _NotGiven):
            object.__setattr__(self, "edges_per_node", max(map(max, sizes.values())))
        object.__setattr__(self, "edges_per_node", int(self.edges_per_node))
        for kind, counts in sizes.items():
            if counts != [min(self.edges_per_node, INPUT_STATES + node) for node in range(len(counts))]:
                raise InputError(
                    f"genotype: {kind} has nodes of {shown(counts)[1:-1]} edges; give each {self.edges_per_node}, or as many as "
                    "there are states before it"
                )
        for kind, given in nodes.items():
            edges = getattr(self, kind) if given is None else [edge for node in given for edge in node]
            cell = checked_cell(kind, edges, self.edges_per_node, OPERATIONS)
            concat = checked_concat(
                f"{kind}_concat", getattr(self, f"{kind}_concat"), num_states(cell, self.edges_per_node)
            )
            object.__setattr__(self, kind, cell)
            object.__setattr__(self, f"{kind}_concat", concat)

    def __str__(self) -> str:
        """The text form of the reference implementation; `parse_genotype` reads it back."""
        fields = [
            f"{kind}={list(getattr(self, kind))!r}, {kind}_concat={concat_text(getattr(self, f'{kind}_concat'))}"
            for kind in ("normal", "reduce")
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
