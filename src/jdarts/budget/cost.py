"""What networks of a space's cells cost by one measure: a sum over the edges and operations that the cells keep."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from jdarts.errors import InputError, shown
from jdarts.genotype import Genotype
from jdarts.space import CellKind, SearchSpace

#: `weights` and `multiply_adds` are counts, `latency` is in nanoseconds of one device.
Measure = Literal["weights", "multiply_adds", "latency"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
#: Nanoseconds of a millisecond.
MILLISECOND = 1_000_000


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of every network of a space's cells, by one measure, in whole numbers.

    Attributes:
      measure: what is counted.
      base: what a network costs besides its cells' operations: stem, preprocessing of the cells, classifier. An auxiliary head
        does not count.
      tables: `{kind: int64 [E, O]}`, what each operation of each edge adds in all cells of its kind; 0 for `none`.
    """

    measure: Measure
    base: int
    tables: Mapping[CellKind, np.ndarray]

    def of(self, genotype: Genotype, space: SearchSpace) -> int:
        """The cost of a network of these cells.

        Raises:
          InputError: an edge or an operation that the space does not have.
        """
        return self.base + sum(
            int(self.tables[kind][place]) for kind in space.kinds for place in places(genotype, space, kind)
        )


class Limit(NamedTuple):
    """A bound on a cost.

    Attributes:
      cost: what is bounded.
      most: the largest cost allowed.
    """

    cost: Cost
    most: int

    def to_json(self) -> dict[str, Any]:
        """The bound and its costs as JSON data."""
        tables = {kind: table.tolist() for kind, table in self.cost.tables.items()}
        return {"measure": self.cost.measure, "most": self.most, "base": self.cost.base, "tables": tables}

    @classmethod
    def from_json(cls, content: Any, space: SearchSpace) -> "Limit":
        """The bound from the JSON data that `to_json` makes.

        Raises:
          InputError: the data are damaged, or of another space.
        """
        try:
            measure, most, base = (content[name] for name in ("measure", "most", "base"))
            tables: dict[CellKind, np.ndarray] = {kind: np.array(content["tables"][kind]) for kind in space.kinds}
        except (TypeError, KeyError, ValueError):
            raise InputError(f"the budget of the search is damaged: {shown(content)}; use another checkpoint") from None
        whole = type(most) is int and type(base) is int
        fits = all(
            table.shape == (space.num_edges, space.width(kind)) and table.dtype.kind == "i"
            for kind, table in tables.items()
        )
        if measure not in MEASURES or not whole or not fits:
            raise InputError(
                f"the budget of the search does not belong to its space: {shown(content)}; use another checkpoint"
            )
        return cls(Cost(measure, base, {kind: table.astype(np.int64) for kind, table in tables.items()}), most)


def limits_of(record: Mapping[str, Any], space: SearchSpace) -> tuple[Limit, ...]:
    """The bounds of a search, from the record of its checkpoint; none if it had none.

    Raises:
      InputError: they are damaged, or of another space.
    """
    if "budget" not in record:
        return ()
    content = record["budget"]
    limits = content.get("limits") if isinstance(content, dict) else None
    if not isinstance(limits, list):
        raise InputError(f"the budget of the search is damaged: {shown(content)}; use another checkpoint")
    return tuple(Limit.from_json(each, space) for each in limits)


def places(genotype: Genotype, space: SearchSpace, kind: CellKind) -> list[tuple[int, int]]:
    """Edge and column of every operation of a cell in the tables of its space.

    Raises:
      InputError: an edge or an operation that the space does not have.
    """
    found = []
    edges = {ends: edge for edge, ends in enumerate(space.edges)}
    nodes = genotype.nodes(kind)
    for target, node in enumerate(nodes, space.edges[0][1]):
        for name, source in node:
            edge = edges.get((source, target))
            names = () if edge is None else space.operations(kind)[edge]
            if edge is None or name not in names:
                raise InputError(
                    f"the {kind} cell has {name} from state {source} to node {target - space.edges[0][1]}, which its space "
                    "does not have; give cells of this space"
                )
            found.append((edge, names.index(name)))
    return found
