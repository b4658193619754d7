"""The mixture of one epoch of a search as JSON data: what the report shows of the alphas."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jdarts.files.json_data import Fields, parse_json, shortest
from jdarts.relaxation import Alphas, Mixture, Space, host_weights, operations_of


class MixtureRecord(NamedTuple):
    """The weights of a mixture at the end of an epoch, by kind of cell.

    Attributes:
      operations: the candidates of each edge.
      weights: `[E, O]`, factors of the operations, the mean over cells that have separate ones.
      edges: `[E]`, factors of whole edges; empty where the mixture has none.
    """

    operations: Mapping[str, tuple[tuple[str, ...], ...]]
    weights: Mapping[str, np.ndarray]
    edges: Mapping[str, np.ndarray]

    def to_json(self) -> str:
        """The record as JSON; numbers are the shortest decimals of float32."""
        content = {
            kind: {
                "operations": [list(names) for names in names_of_edges],
                "weights": shortest(self.weights[kind]),
                **({"edges": shortest(self.edges[kind])} if kind in self.edges else {}),
            }
            for kind, names_of_edges in self.operations.items()
        }
        return json.dumps(content)


def mixture_record(alphas: Alphas, space: Space, mixture: Mixture) -> MixtureRecord:
    """The mean weights of a mixture.

    Args:
      alphas: those of the mixture.
      space: the search space.
      mixture: how alphas become weights.
    """
    return MixtureRecord(operations_of(space), *host_weights(mixture, alphas, space))


def read_mixture(text: str | bytes) -> MixtureRecord:
    """Reads what `MixtureRecord.to_json` has written.

    Raises:
      ValueError: it is something else.
    """
    operations, weights, edges = {}, {}, {}
    content = Fields(parse_json(text))
    for kind in content.names:
        cell = Fields(content.get(kind))
        names: Any = cell.get("operations")
        table = cell.table("weights")
        if not isinstance(names, list) or len(names) != len(table):
            raise ValueError("operations is no list of each edge's operations")
        operations[kind] = tuple(Fields({"operations": each}).texts("operations") for each in names)
        if any(not 0 < len(each) <= table.shape[1] for each in operations[kind]):
            raise ValueError("operations and weights have different sizes")
        weights[kind] = table
        if cell.has("edges"):
            edges[kind] = Fields({"edges": [cell.get("edges")]}).table("edges")[0]
    return MixtureRecord(operations, weights, edges)
