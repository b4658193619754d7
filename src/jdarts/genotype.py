"""Genotypes: discrete cells, as frozen validated data with text and JSON forms that read back."""

import ast
import dataclasses
import json
from collections.abc import Iterable, Mapping, Set
from numbers import Integral
from typing import Any

from jdarts.errors import InputError

NONE = "none"
INPUT_STATES = 2

#: Every operation that an edge of a discrete convolutional cell may carry. `none`, never chosen, is not among them.
CELL_OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv_7x1_1x7",
    "conv_3x1_1x3",
    "noise",
)

Edge = tuple[str, int]
Cell = tuple[Edge, ...]


@dataclasses.dataclass(frozen=True)
class Genotype:
    """A pair of discrete convolutional cells, as in the reference implementation (paper section 2.4).

    States are numbered as in the paper's code: 0 is the output of the cell before the last one, 1 that of the last
    cell, 2 and up are the nodes. Node `i` has `min(edges_per_node, i + 2)` consecutive entries, each an operation and
    the state that it reads. Sequences of any kind are accepted and stored as tuples.

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
    edges_per_node: int = 2

    def __post_init__(self) -> None:
        if not _is_index(self.edges_per_node) or self.edges_per_node < 1:
            raise InputError(
                f"genotype: edges_per_node is {_shown(self.edges_per_node)}; give a whole number of 1 or more"
            )
        object.__setattr__(self, "edges_per_node", int(self.edges_per_node))
        for kind in ("normal", "reduce"):
            cell = _checked_cell(kind, getattr(self, kind), self.edges_per_node)
            concat = _checked_concat(kind, getattr(self, f"{kind}_concat"), num_states(cell, self.edges_per_node))
            object.__setattr__(self, kind, cell)
            object.__setattr__(self, f"{kind}_concat", concat)

    def __str__(self) -> str:
        """The text form of the reference implementation; `parse_genotype` reads it back."""
        fields = [
            f"{kind}={list(getattr(self, kind))!r}, {kind}_concat={_concat_text(getattr(self, f'{kind}_concat'))}"
            for kind in ("normal", "reduce")
        ]
        if self.edges_per_node != 2:
            fields.append(f"edges_per_node={self.edges_per_node}")
        return f"Genotype({', '.join(fields)})"

    def to_json(self) -> str:
        """The JSON form: an object with `normal`, `normal_concat`, `reduce`, `reduce_concat`.

        `edges_per_node` is written only where it differs from the paper's 2.
        """
        fields = dataclasses.asdict(self)
        if self.edges_per_node == 2:
            del fields["edges_per_node"]
        return json.dumps(fields)


#: The fields of a genotype in order, and whether each must be given.
_FIELDS = {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(Genotype)}


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


def genotype_from_json(text: str) -> Genotype:
    """Reads the form that `Genotype.to_json` writes.

    Raises:
      InputError: not JSON, or not the JSON of a genotype.
    """
    try:
        fields = json.loads(text, object_pairs_hook=_once_each)
    except json.JSONDecodeError as error:
        raise InputError(f"genotype: not valid JSON ({error})") from None
    except InputError:
        raise
    except (ValueError, RecursionError):
        raise InputError("genotype: not valid JSON (nested too deep, or a number too long)") from None
    return _from_fields(fields)


def parse_genotype(text: str) -> Genotype:
    """Reads a genotype from its text form or its JSON form, without ever evaluating it.

    Args:
      text: `Genotype(normal=[('sep_conv_3x3', 0), …], normal_concat=range(2, 6), reduce=…, reduce_concat=…)` as the
        reference implementation prints it, or the JSON object of `Genotype.to_json`.

    Raises:
      InputError: anything else; the message says what was found.
    """
    text = text.strip()
    if text.startswith("{"):
        return genotype_from_json(text)
    try:
        call = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        call = None
    match call:
        case ast.Call(func=ast.Name(id="Genotype"), args=arguments, keywords=keywords):
            if len(arguments) > len(_FIELDS):
                raise InputError(f"genotype: {len(arguments)} values; give {', '.join(_FIELDS)}")
            named = [(keyword.arg or "**", keyword.value) for keyword in keywords]
            nodes = _once_each([*zip(_FIELDS, arguments), *named])
            return _from_fields({name: _literal(name, node, text) for name, node in nodes.items()})
        case _:
            raise InputError(f"genotype: cannot read {_shown(text)}; expected Genotype(normal=[…], …) or a JSON object")


def _from_fields(fields: object) -> Genotype:
    if not isinstance(fields, Mapping):
        raise InputError(f"genotype: expected an object with {', '.join(_FIELDS)}; found {_shown(fields)}")
    unknown = [name for name in fields if name not in _FIELDS]
    if unknown:
        raise InputError(f"genotype: unknown field {_shown(unknown[0])}; known are {', '.join(_FIELDS)}")
    missing = [name for name, required in _FIELDS.items() if required and name not in fields]
    if missing:
        raise InputError(f"genotype: {', '.join(missing)} missing; give every field")
    return Genotype(**fields)


def _once_each(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise InputError(f"genotype: field {_shown(name)} appears twice; give it once")
        fields[name] = value
    return fields


def _literal(name: str, node: ast.expr, text: str) -> Any:
    try:
        match node:
            case ast.Call(func=ast.Name(id="range"), args=arguments, keywords=[]):
                bounds = [ast.literal_eval(argument) for argument in arguments]
                # A range of a cell's states is short; a long one would only fill the memory.
                if not all(_is_index(bound) and 0 <= bound <= 1000 for bound in bounds):
                    raise ValueError
                return tuple(range(*bounds))
            case _:
                return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        given = ast.get_source_segment(text, node) or ""
        raise InputError(f"genotype: {name} is {_shortened(given)!r}; expected a plain list or number") from None


def _checked_cell(kind: str, edges: object, edges_per_node: int) -> Cell:
    cell = tuple(_checked_edge(kind, edge) for edge in _checked_sequence(kind, edges))
    nodes = nodes_of(cell, edges_per_node)
    last = INPUT_STATES + len(nodes) - 1
    if not nodes or len(nodes[-1]) < min(edges_per_node, last):
        raise InputError(
            f"genotype: {kind} has {len(cell)} edges, which do not fill whole nodes of {_shown(edges_per_node)} edges; "
            "add or remove edges"
        )
    for state, node in enumerate(nodes, INPUT_STATES):
        for name, source in node:
            if not 0 <= source < state:
                raise InputError(
                    f"genotype: ({name!r}, {_shown(source)}) in {kind} leads to state {state}; "
                    f"its source must be a state from 0 to {state - 1}"
                )
    return cell


def _checked_edge(kind: str, edge: object) -> Edge:
    pair = _checked_sequence(f"an edge of {kind}", edge)
    if len(pair) != 2:
        raise InputError(f"genotype: {_shown(edge)} in {kind} is not a pair (operation, source)")
    name, source = pair
    if not isinstance(name, str) or name not in CELL_OPERATIONS:
        raise InputError(
            f"genotype: unknown operation {_shown(name, 24)} in {kind}; known are {', '.join(CELL_OPERATIONS)}"
        )
    if not _is_index(source):
        raise InputError(f"genotype: ({name!r}, {_shown(source)}) in {kind}; its source must be a whole number")
    return str(name), int(source)


def _checked_concat(kind: str, concat: object, states: int) -> tuple[int, ...]:
    indices = _checked_sequence(f"{kind}_concat", concat)
    if not indices or not all(_is_index(index) and 0 <= index < states for index in indices):
        raise InputError(f"genotype: {kind}_concat is {_shown(concat)}; give states from 0 to {states - 1}")
    if len(set(indices)) != len(indices):
        raise InputError(f"genotype: {kind}_concat is {_shown(concat)}; give each state once")
    return tuple(int(index) for index in indices)


def _checked_sequence(what: str, value: object) -> list[Any]:
    if isinstance(value, (str, bytes, Mapping, Set)) or not isinstance(value, Iterable):
        raise InputError(f"genotype: {what} is {_shown(value)}; expected a list")
    return list(value)


def _is_index(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _concat_text(concat: tuple[int, ...]) -> str:
    run = range(concat[0], concat[-1] + 1)
    return repr(run) if tuple(run) == concat else repr(list(concat))


def _shown(value: object, limit: int = 60) -> str:
    try:
        return _shortened(repr(value), limit)
    except (ValueError, RecursionError):  # A number of thousands of digits, or lists in lists in lists.
        return f"a huge {type(value).__name__}"


def _shortened(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
