"""Genotypes of recurrent cells, as frozen validated data."""

import dataclasses
import json

from jdarts.errors import InputError
from jdarts.genotype.checks import (
    Cell,
    check_source,
    checked_concat,
    checked_edge,
    checked_edges,
    concat_text,
    edges_by_node,
)
from jdarts.operations import ACTIVATIONS
from jdarts.rich_forms import svg_of


@dataclasses.dataclass(frozen=True)
class RecurrentGenotype:
    """A discrete recurrent cell, as in the reference implementation (paper sections 2.1 and 3.1.2).

    State 0 is computed from the input and the last hidden state; node `i` reads one of the states 0 to `i` and makes state
    `i + 1`. Sequences of any kind are accepted and stored as tuples.

    Attributes:
      recurrent: for every node its activation and the state that it reads, `((activation, state), …)`.
      concat: states whose mean is the cell's output, and the next hidden state.

    Raises:
      InputError: an unknown activation, a state that is not an earlier one, or a mean of states that do not exist.
    """

    recurrent: Cell
    concat: tuple[int, ...]

    def __post_init__(self) -> None:
        nodes = edges_by_node(self.recurrent)
        if any(len(node) > 1 for node in nodes or ()):
            raise InputError("genotype: recurrent has a node of several edges; give each node one")
        edges = self.recurrent if nodes is None else [edge for node in nodes for edge in node]
        cell = tuple(checked_edge("recurrent", edge, ACTIVATIONS) for edge in checked_edges("recurrent", edges))
        if not cell:
            raise InputError("genotype: recurrent has no node; give one or more")
        for node, edge in enumerate(cell):
            check_source("recurrent", edge, node + 1)
        object.__setattr__(self, "recurrent", cell)
        object.__setattr__(self, "concat", checked_concat("concat", self.concat, len(cell) + 1))

    def _repr_svg_(self) -> str:
        return svg_of(self)

    def __str__(self) -> str:
        """The text form of the reference implementation; `parse_genotype` reads it back."""
        return f"Genotype(recurrent={list(self.recurrent)!r}, concat={concat_text(self.concat)})"

    def to_json(self) -> str:
        """The JSON form: an object with `recurrent` and `concat`."""
        return json.dumps(dataclasses.asdict(self))
