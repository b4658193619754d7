"""Cells as NAS-Bench-301 writes them: an operation for each edge that is used, by the edge's number within its cell."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jdarts.errors import InputError, shown
from jdarts.genotype.checks import INPUT_STATES, Edge
from jdarts.genotype.convolutional import KINDS, Genotype, Kind

_NAME = re.compile(r"(?:.*(?::|_COLON_))?(edge|inputs_node)_(normal|reduce)_(\d{1,2})")
_NODES, _EDGES_PER_NODE = 4, 2


def configuration_fields(content: Any) -> dict[tuple[str, str, int], Any]:
    """The entries of a configuration, by what they name, the cell and the number; empty if there are none.

    Args:
      content: a dictionary with names such as `NetworkSelectorDatasetInfo:darts:edge_normal_0`, or one that holds such a
        dictionary, as the benchmark's files of results do.
    """
    if not isinstance(content, Mapping):
        return {}
    for each in (content, *(inner for inner in content.values() if isinstance(inner, Mapping))):
        found = {name: match for name in each if isinstance(name, str) and (match := _NAME.fullmatch(name))}
        if found:
            named = {(match[1], match[2], int(match[3])): each[name] for name, match in found.items()}
            return {place: value for place, value in named.items() if value is not None}
    return {}


def genotype_of_configuration(fields: Mapping[tuple[str, str, int], Any]) -> Genotype:
    """The genotype of `configuration_fields`.

    Raises:
      InputError: a node has other than two edges, or other inputs than its edges.
    """
    cells: dict[Kind, tuple[Edge, ...]] = {kind: tuple(_edges(kind, fields)) for kind in KINDS}
    concat = tuple(range(INPUT_STATES, INPUT_STATES + _NODES))
    return Genotype(cells["normal"], concat, cells["reduce"], concat)


def _edges(kind: Kind, fields: Mapping[tuple[str, str, int], Any]) -> Iterator[Edge]:
    first = 0
    for state in range(INPUT_STATES, INPUT_STATES + _NODES):
        # The edges into a state have numbers in the order of their sources.
        sources = [source for source in range(state) if ("edge", kind, first + source) in fields]
        named = f"edge_{kind}_{first} to edge_{kind}_{first + state - 1}"
        if len(sources) != _EDGES_PER_NODE:
            raise InputError(
                f"genotype: NAS-Bench-301's configuration has {len(sources)} of {named}, the edges of node {state}; each node "
                "has two: give the whole configuration"
            )
        inputs = fields.get(("inputs_node", kind, state))
        if inputs is not None and inputs != "_".join(map(str, sources)):
            raise InputError(
                f"genotype: inputs_node_{kind}_{state} of NAS-Bench-301's configuration is {shown(inputs)}, and its edges among "
                f"{named} come from {sources[0]} and {sources[1]}; make both the same"
            )
        yield from ((fields["edge", kind, first + source], source) for source in sources)
        first += state
