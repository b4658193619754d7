"""Genotypes: discrete cells, as frozen validated data with text and JSON forms that read back."""

import ast
import dataclasses
import json
from collections.abc import Iterable, Mapping, Set
from numbers import Integral
from typing import Any, TypeVar, overload

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

#: Every activation that a node of a discrete recurrent cell may have.
ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")

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
            concat = _checked_concat(
                f"{kind}_concat", getattr(self, f"{kind}_concat"), num_states(cell, self.edges_per_node)
            )
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


@dataclasses.dataclass(frozen=True)
class RecurrentGenotype:
    """A discrete recurrent cell, as in the reference implementation (paper sections 2.1 and 3.1.2).

    State 0 is made of the input and the last hidden state; node `i` reads one of the states 0 to `i` and makes state
    `i + 1`. Sequences of any kind are accepted and stored as tuples.

    Attributes:
      recurrent: the activation and the state that it reads of every node, `((activation, state), …)`.
      concat: states whose mean is the cell's output, and the next hidden state.

    Raises:
      InputError: an unknown activation, a state that is not an earlier one, or a mean of states that do not exist.
    """

    recurrent: Cell
    concat: tuple[int, ...]

    def __post_init__(self) -> None:
        cell = tuple(
            _checked_edge("recurrent", edge, ACTIVATIONS) for edge in _checked_sequence("recurrent", self.recurrent)
        )
        if not cell:
            raise InputError("genotype: recurrent has no node; give one or more")
        for node, edge in enumerate(cell):
            _check_source("recurrent", edge, node + 1)
        object.__setattr__(self, "recurrent", cell)
        object.__setattr__(self, "concat", _checked_concat("concat", self.concat, len(cell) + 1))

    def __str__(self) -> str:
        """The text form of the reference implementation; `parse_genotype` reads it back."""
        return f"Genotype(recurrent={list(self.recurrent)!r}, concat={_concat_text(self.concat)})"

    def to_json(self) -> str:
        """The JSON form: an object with `recurrent` and `concat`."""
        return json.dumps(dataclasses.asdict(self))


AnyGenotype = Genotype | RecurrentGenotype
G = TypeVar("G", Genotype, RecurrentGenotype)

#: What an error calls each kind of genotype.
_KINDS = {Genotype: "a convolutional cell", RecurrentGenotype: "a recurrent cell"}


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


def genotype_from_json(text: str) -> AnyGenotype:
    """Reads the form that `to_json` of either kind of genotype writes.

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
    if not isinstance(fields, Mapping):
        raise InputError(f"genotype: expected an object with {', '.join(_fields(Genotype))}; found {_shown(fields)}")
    return _from_fields(fields, _kind_with(fields))


@overload
def parse_genotype(text: str) -> AnyGenotype: ...
@overload
def parse_genotype(text: str, kind: type[G]) -> G: ...
@overload
def parse_genotype(text: str, kind: type[AnyGenotype] | None) -> AnyGenotype: ...
def parse_genotype(text: str, kind: type[AnyGenotype] | None = None) -> AnyGenotype:
    """Reads a genotype from its text form or its JSON form, without ever evaluating it.

    Args:
      text: `Genotype(normal=[('sep_conv_3x3', 0), …], normal_concat=range(2, 6), reduce=…, reduce_concat=…)` or
        `Genotype(recurrent=[('tanh', 0), …], concat=range(1, 9))`, as the reference implementation prints them, or the JSON
        object of `to_json`.
      kind: the kind of genotype that is wanted, `Genotype` or `RecurrentGenotype`; either where it is not given.

    Raises:
      InputError: anything else; the message says what was found.
    """
    text = text.strip()
    genotype = genotype_from_json(text) if text.startswith("{") else _from_text(text)
    if kind is not None and not isinstance(genotype, kind):
        raise InputError(f"genotype: {_KINDS[type(genotype)]} is given; {_KINDS[kind]} is needed here")
    return genotype


def _from_text(text: str) -> AnyGenotype:
    try:
        call = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        call = None
    match call:
        case ast.Call(func=ast.Name(id="Genotype" | "RecurrentGenotype" as name), args=arguments, keywords=keywords):
            named = [(keyword.arg or "**", keyword.value) for keyword in keywords]
            by_position = len(arguments) == len(_fields(RecurrentGenotype)) and not named
            recurrent = name == "RecurrentGenotype" or by_position
            kind = RecurrentGenotype if recurrent else _kind_with(dict(named))
            known = _fields(kind)
            if len(arguments) > len(known):
                raise InputError(f"genotype: {len(arguments)} values; give {', '.join(known)}")
            nodes = _once_each([*zip(known, arguments), *named])
            return _from_fields({name: _literal(name, node, text) for name, node in nodes.items()}, kind)
        case _:
            raise InputError(f"genotype: cannot read {_shown(text)}; expected Genotype(normal=[…], …) or a JSON object")


def _fields(kind: type[AnyGenotype]) -> dict[str, bool]:
    """The fields of a genotype in order, and whether each must be given."""
    return {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(kind)}


def _kind_with(names: Iterable[str]) -> type[AnyGenotype]:
    names = set(names)
    recurrent = names & set(_fields(RecurrentGenotype)) and not names & set(_fields(Genotype))
    return RecurrentGenotype if recurrent else Genotype


def _from_fields(fields: Mapping[str, Any], kind: type[AnyGenotype]) -> AnyGenotype:
    known = _fields(kind)
    unknown = [name for name in fields if name not in known]
    if unknown:
        raise InputError(f"genotype: unknown field {_shown(unknown[0])}; known are {', '.join(known)}")
    missing = [name for name, required in known.items() if required and name not in fields]
    if missing:
        raise InputError(f"genotype: {', '.join(missing)} missing; give every field")
    return kind(**fields)


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
    cell = tuple(_checked_edge(kind, edge, CELL_OPERATIONS) for edge in _checked_sequence(kind, edges))
    nodes = nodes_of(cell, edges_per_node)
    last = INPUT_STATES + len(nodes) - 1
    if not nodes or len(nodes[-1]) < min(edges_per_node, last):
        raise InputError(
            f"genotype: {kind} has {len(cell)} edges, which do not fill whole nodes of {_shown(edges_per_node)} edges; "
            "add or remove edges"
        )
    for state, node in enumerate(nodes, INPUT_STATES):
        for edge in node:
            _check_source(kind, edge, state)
    return cell


def _check_source(kind: str, edge: Edge, state: int) -> None:
    name, source = edge
    if not 0 <= source < state:
        raise InputError(
            f"genotype: ({name!r}, {_shown(source)}) in {kind} leads to state {state}; "
            f"its source must be a state from 0 to {state - 1}"
        )


def _checked_edge(kind: str, edge: object, operations: tuple[str, ...]) -> Edge:
    pair = _checked_sequence(f"an edge of {kind}", edge)
    if len(pair) != 2:
        raise InputError(f"genotype: {_shown(edge)} in {kind} is not a pair (operation, source)")
    name, source = pair
    if not isinstance(name, str) or name not in operations:
        raise InputError(f"genotype: unknown operation {_shown(name, 24)} in {kind}; known are {', '.join(operations)}")
    if not _is_index(source):
        raise InputError(f"genotype: ({name!r}, {_shown(source)}) in {kind}; its source must be a whole number")
    return str(name), int(source)


def _checked_concat(name: str, concat: object, states: int) -> tuple[int, ...]:
    indices = _checked_sequence(name, concat)
    if not indices or not all(_is_index(index) and 0 <= index < states for index in indices):
        raise InputError(f"genotype: {name} is {_shown(concat)}; give states from 0 to {states - 1}")
    if len(set(indices)) != len(indices):
        raise InputError(f"genotype: {name} is {_shown(concat)}; give each state once")
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
