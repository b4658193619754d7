"""Genotypes as NNI, NASLib, NAS-Bench-301 and NAS-Bench-201 write them."""

import ast
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from jdarts.errors import InputError, shown
from jdarts.genotype.checks import INPUT_STATES, Edge, is_index
from jdarts.genotype.convolutional import KINDS, Genotype, Kind
from jdarts.genotype.nasbench301 import configuration_fields, genotype_of_configuration
from jdarts.genotype.reachable import genotype_of_nodes
from jdarts.operations import NONE

#: NASLib's numbers of operations in NAS-Bench-301's space, and NNI's in its example of DARTS.
NUMBERED = (
    "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
_MAX_CHARACTERS = 100_000
_NNI_NAME = re.compile(r"(normal|reduce)(?:_n(\d{1,2})_(?:p(\d{1,2})|switch)|/(op|input)_(\d{1,2})_(\d{1,2}))")
_CELL_TEXT = re.compile(r"\|(?:\w{1,40}~\d{1,2}\|)+(?:\+\|(?:\w{1,40}~\d{1,2}\|)+)*")
_EDGE_TEXT = re.compile(r"(\w{1,40})~(\d{1,2})")
_TUPLES = re.compile(r"\s*(older\s*:\s*)?(?=[(\[]\s*[(\[]\s*[(\[]\s*\d)")


def is_foreign(text: str) -> bool:
    """Whether a text may be a genotype of NASLib, NAS-Bench-301 or NAS-Bench-201; others are JSON objects."""
    forms = _TUPLES.match(text), _CELL_TEXT.fullmatch(text.strip()), _values_printed(text)
    return any(form is not None for form in forms)


def foreign_genotype(text: str) -> Genotype | None:
    """The genotype of a text; None if it is of none of these forms.

    * NNI: a JSON object or a dictionary, with entries such as `normal/op_2_0` and `normal/input_2_0`, or `normal_n2_p0` and
      `normal_n2_switch`;
    * NASLib's tuples for NAS-Bench-301: `(((0, 3), (1, 3), …), (…))`, of a state and the number of an operation for each edge.
      The numbers run from 0; in NASLib's older files from 1, with 0 for `none`. A 7 tells them apart; where there is none, write
      `older:` before the tuples;
    * NAS-Bench-301's configurations: a JSON object, a dictionary or `Configuration(values={…})`, with entries such as
      `NetworkSelectorDatasetInfo:darts:edge_normal_0`.

    Raises:
      InputError: a text of such a form with an error, or of NAS-Bench-201, whose cells are others.
    """
    if len(text) > _MAX_CHARACTERS:
        return None
    if _CELL_TEXT.fullmatch(text.strip()):
        raise InputError(_about_cell(text))
    if (values := _values_printed(text)) or text.lstrip().startswith("{"):
        content = _dictionary(values or text)
        if fields := _nni_fields(content):
            return _from_nni(fields)
        if fields := configuration_fields(content):
            return genotype_of_configuration(fields)
    if (start := _TUPLES.match(text)) and (value := _plain(ast.literal_eval, text[start.end() :].strip())) is not None:
        return _from_tuples(value, older=start[1] is not None)
    return None


def _plain(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _values_printed(text: str) -> str | None:
    """The dictionary in a configuration as the package ConfigSpace prints it, `Configuration(values={…})`."""
    first, last = text.find("{"), text.rfind("}")
    is_printed = text.lstrip().startswith("Configuration(") and first < last
    return text[first : last + 1] if is_printed else None


def _dictionary(text: str) -> Any:
    """The content of a JSON object or of a dictionary as Python prints it; None if it is neither."""
    return _plain(json.loads, text) or _plain(ast.literal_eval, text)


def _nni_fields(content: Any) -> dict[str, Any]:
    """NNI's entries for both cells; empty if there are none."""
    if not isinstance(content, dict):
        return {}
    return {name: value for name, value in content.items() if isinstance(name, str) and _NNI_NAME.fullmatch(name)}


def _from_nni(fields: Mapping[str, Any]) -> Genotype:
    nodes: dict[Kind, list[list[Edge]]] = {kind: _nni_nodes(kind, fields) for kind in KINDS}
    counts = {kind: len(each) for kind, each in nodes.items()}
    if len(set(counts.values())) > 1:
        raise InputError(
            f"genotype: NNI's cells have {counts['normal']} and {counts['reduce']} nodes; give the whole file"
        )
    concat = range(INPUT_STATES, INPUT_STATES + counts["normal"])
    return genotype_of_nodes(nodes, concat, "genotype: NNI chose none on all of its edges; give another file")


def _nni_nodes(kind: Kind, fields: Mapping[str, Any]) -> list[list[Edge]]:
    found = [match for name in fields if (match := _NNI_NAME.fullmatch(name)) and match[1] == kind]
    states = sorted({int(match[2] or match[5]) for match in found})
    if not states or states != list(range(INPUT_STATES, INPUT_STATES + len(states))):
        raise InputError(
            f"genotype: NNI's nodes of {kind} are {shown(states)}; give the whole file, with 2, 3, … of both cells"
        )
    nodes = []
    for state in states:
        if any(match[4] for match in found if int(match[2] or match[5]) == state):
            places = sorted(int(m[6]) for m in found if m[4] == "op" and int(m[5]) == state)
            chosen = [(f"{kind}/op_{state}_{n}", _only(fields, f"{kind}/input_{state}_{n}")) for n in places]
        else:
            switch = _listed(_entry(fields, f"{kind}_n{state}_switch"))
            sources = [_source(each) for each in switch]
            chosen = [(f"{kind}_n{state}_p{source}", source) for source in sorted(sources)]
        edges = [(_operation(name, _entry(fields, name)), source) for name, source in chosen]
        nodes.append([edge for edge in edges if edge[0] != NONE])
    return nodes


def _entry(fields: Mapping[str, Any], name: str) -> Any:
    if name not in fields:
        raise InputError(f"genotype: NNI's entry {name} is missing; give the whole file")
    return fields[name]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _only(fields: Mapping[str, Any], name: str) -> Any:
    """The only source in NNI's entry for an input."""
    values = _listed(_entry(fields, name))
    if len(values) != 1 or not is_index(values[0]):
        raise InputError(f"genotype: NNI's entry {name} is {shown(fields[name])}; it chooses one state")
    return values[0]


def _source(value: Any) -> int:
    """The state of an entry of a switch: a number, or the end of a name."""
    match = re.fullmatch(r"(?:normal|reduce)_n\d{1,2}_p(\d{1,2})", value) if isinstance(value, str) else None
    if match is None and not is_index(value):
        raise InputError(
            f"genotype: NNI's switch chooses {shown(value)}; it must be a number, or a name such as normal_n2_p0"
        )
    return int(match[1]) if match else int(value)


def _operation(name: str, value: Any) -> str:
    values = _listed(value)
    if len(values) != 1:
        raise InputError(
            f"genotype: NNI's entry {name} is {shown(value)}, and its node uses it; it must be one operation"
        )
    return _numbered(values[0]) if is_index(values[0]) else values[0]


def _numbered(number: int, first: int = 0) -> str:
    """The operation of a number, where they run from `first`."""
    if not 0 <= number - first < len(NUMBERED):
        raise InputError(
            f"genotype: there is no operation {number}; the numbers are {first} to {first + len(NUMBERED) - 1}: "
            f"{', '.join(NUMBERED)}"
        )
    return NUMBERED[number - first]


def _from_tuples(value: Any, *, older: bool) -> Genotype:
    """NASLib's form: the edges of both cells, two for each node; in older files operations have numbers from 1."""
    cells = [_listed(cell) for cell in _listed(value)]
    pairs = [_listed(pair) for cell in cells for pair in cell]
    if len(cells) != 2 or not all(len(pair) == 2 and all(map(is_index, pair)) for pair in pairs):
        raise InputError(
            f"genotype: {shown(value)} is not a pair of cells as NASLib writes them; each edge is (state, number of an operation)"
        )
    numbers = {number for _, number in pairs}
    if 0 in numbers and (older or len(NUMBERED) in numbers):
        raise InputError(
            f"genotype: {shown(value)} has the operation 0, which is none where numbers run from 1 to {len(NUMBERED)}, as in "
            f"NASLib's older files; an edge of a genotype has an operation: give numbers from 0 to {len(NUMBERED) - 1}, or from 1"
        )
    first = 1 if older or len(NUMBERED) in numbers else 0
    normal, reduce = (tuple((_numbered(number, first), state) for state, number in cell) for cell in cells)
    concats = [tuple(range(INPUT_STATES, INPUT_STATES + len(cell) // 2)) for cell in (normal, reduce)]
    return Genotype(normal, concats[0], reduce, concats[1])


def _about_cell(text: str) -> str:
    """Why a cell of NAS-Bench-201 is no genotype, and the nearest pair of cells."""
    nodes = [_EDGE_TEXT.findall(node) for node in text.strip().split("+")]
    why = (
        "genotype: this is a cell of NAS-Bench-201, which reads one state, gives its last node, and stands in a network with "
        "residual blocks as reductions; cells here read two states"
    )
    # Its state 0 is the newer input, 1 here, and its nodes are 2, 3, …, of which those that nothing reaches are left out.
    edges = [[(name, int(source) + 1) for name, source in node if name != NONE] for node in nodes]
    kept: list[list[Edge]] = []
    for node in edges:
        kept.append([(name, state) for name, state in node if state < INPUT_STATES or kept[state - INPUT_STATES]])
    try:
        cell, counts = tuple(edge for node in kept for edge in node), tuple(map(len, kept))
        last = (INPUT_STATES + len(kept) - 1,)
        nearest = Genotype(cell, last, cell, last, (counts, counts))
    except (InputError, IndexError):
        return f"{why}, and no pair of them is near"
    return f"{why}. The same edges and sums on the newer state, in both cells, are {nearest}"
