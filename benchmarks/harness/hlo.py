"""What a compiled program launches and writes, read from its scheduled HLO text."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

#: Operations that give memory another name or only describe a value.
_FREE = frozenset(
    [
        "parameter",
        "constant",
        "get-tuple-element",
        "tuple",
        "bitcast",
        "after-all",
        "partition-id",
        "replica-id",
        "opt-barrier",
        "add-dependency",
        "domain",
    ]
)
#: Operations that put numbers elsewhere and compute none.
MOVES = frozenset(
    [
        "transpose",
        "concatenate",
        "pad",
        "slice",
        "slice-start",
        "dynamic-slice",
        "dynamic-update-slice",
        "copy",
        "copy-start",
        "reshape",
        "reverse",
        "broadcast",
        "gather",
    ]
)
#: Moves that a launch may end in after it has computed.
_REARRANGEMENTS = MOVES - {"broadcast", "gather", "dynamic-update-slice"}
#: What may lie beside moves in a fusion that computes nothing: values that cost nothing to make.
_BESIDE_MOVES = _FREE | MOVES | frozenset(("iota", "convert", "compare", "select", "and", "or", "not", "clamp"))
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
_BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0}

_INSTRUCTION = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (.*?[\]})]) ([\w\-]+)\(")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


class Array(NamedTuple):
    """An array that an instruction writes."""

    numbers: int
    bytes: int


class Instruction(NamedTuple):
    """One line of a computation.

    Attributes:
      name: of its value.
      opcode: as HLO names it.
      arrays: what it writes.
      operands: names of values that it reads.
      called: names of computations by the attribute that names them.
      root: whether its value is the computation's.
      line: the text.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    called: Mapping[str, tuple[str, ...]]
    root: bool
    line: str


class Launch(NamedTuple):
    """A kernel, a copy or a call of a library.

    Attributes:
      kind: `fusion` for those that compute, `moving fusion` for those that put numbers elsewhere, the target of a custom call,
        else the operation.
      arrays: what it writes; of an update in place, the update.
      moves: whether it computes nothing.
      placed: of what it writes, arrays that a move makes, after whatever is computed before.
      in_loop: whether it is part of a loop, and so launched once a trip.
      times: trips of the loops around it, where the compiler knows them; those that it does not know count as one.
      origin: the operation of JAX that it comes from.
    """

    kind: str
    arrays: tuple[Array, ...]
    moves: bool
    placed: tuple[Array, ...]
    in_loop: bool
    times: int
    origin: str

    @property
    def bytes(self) -> int:
        """Bytes that it writes."""
        return sum(array.bytes for array in self.arrays)


class Summary(NamedTuple):
    """A program's launches; those of a loop's body count once.

    Attributes:
      launches: number by kind.
      small: number of launches that write less than `SMALL` bytes.
      written: bytes by kind.
      moved: bytes that launches write that compute nothing, in arrays of at least the size of a feature map.
      placed: the same with launches that compute first, and then transpose, join, pad or cut.
      loops: number of loops.
      in_loops: launches inside loops.
      all_trips: number of launches and bytes that they write, of every trip of the loops.
      collectives: arrays and bytes that devices exchange, by operation.
    """

    launches: Mapping[str, int]
    small: int
    written: Mapping[str, int]
    moved: int
    placed: int
    loops: int
    in_loops: int
    all_trips: tuple[int, int]
    collectives: Mapping[str, tuple[int, int]]

    @property
    def count(self) -> int:
        """All launches."""
        return sum(self.launches.values())

    @property
    def bytes(self) -> int:
        """All bytes written."""
        return sum(self.written.values())


#: Bytes below which a launch costs more than its memory traffic.
SMALL = 100_000

Computations = Mapping[str, Sequence[Instruction]]


def summarise(text: str, *, map_numbers: int = 0) -> Summary:
    """Counts a scheduled program's launches and what they write.

    Args:
      text: of `jax.stages.Compiled.as_text()`.
      map_numbers: numbers of the smallest feature map; `Summary.moved` counts arrays of that size and larger.
    """
    entry, computations = parse(text)
    found = list(_launches(entry, computations))
    count: Counter[str] = Counter(launch.kind for launch in found)
    written: Counter[str] = Counter()
    for launch in found:
        written[launch.kind] += launch.bytes

    def large(arrays: Iterable[Array]) -> int:
        return sum(array.bytes for array in arrays if array.numbers >= map_numbers)

    return Summary(
        launches=dict(count.most_common()),
        small=sum(launch.bytes < SMALL for launch in found),
        written=dict(written.most_common()),
        moved=sum(large(launch.arrays) for launch in found if launch.moves),
        placed=sum(large(launch.arrays if launch.moves else launch.placed) for launch in found),
        loops=sum(each.opcode == "while" for each in _reached(entry, computations)),
        in_loops=sum(launch.in_loop for launch in found),
        all_trips=(sum(launch.times for launch in found), sum(launch.times * launch.bytes for launch in found)),
        collectives=_collectives(_reached(entry, computations)),
    )


def launches(text: str) -> list[Launch]:
    """Every launch of a scheduled program, in the order of its text; those of loops once."""
    entry, computations = parse(text)
    return list(_launches(entry, computations))


def parse(text: str) -> tuple[str, Computations]:
    """The name of the entry computation, and the instructions of all computations by name.

    Raises:
      ValueError: a text without an entry.
    """
    entry, computations = None, {}
    current: list[Instruction] = []
    for line in text.splitlines():
        instruction = _INSTRUCTION.match(line)
        if instruction:
            current.append(_read(line, instruction))
            continue
        head = _COMPUTATION.match(line)
        if head:
            current = computations[head[2]] = []
            entry = head[2] if head[1] else entry
    if entry is None:
        raise ValueError("no ENTRY computation; give the text of a compiled program")
    return entry, computations


def _read(line: str, match: re.Match[str]) -> Instruction:
    called: dict[str, tuple[str, ...]] = {}
    for attribute, name in _CALLED.findall(line):
        called[attribute] = (*called.get(attribute, ()), name)
    branches = _BRANCHES.search(line)
    if branches:
        called["branch_computations"] = tuple(name.strip().lstrip("%") for name in branches[1].split(","))
    return Instruction(
        name=match[2],
        opcode=match[4],
        arrays=tuple(_array(dtype, dims) for dtype, dims in _ARRAY.findall(match[3])),
        operands=tuple(_NAME.findall(_inside_parentheses(line, match.end() - 1))),
        called=called,
        root=bool(match[1]),
        line=line,
    )


def _array(dtype: str, dims: str) -> Array:
    numbers = 1
    for dim in dims.split(","):
        numbers *= int(dim) if dim else 1
    digits = re.search(r"\d+", dtype)
    bits = _BITS.get(dtype, int(digits[0]) if digits else 0)
    return Array(numbers, -(-numbers * bits // 8))


def _inside_parentheses(line: str, start: int) -> str:
    depth = 0
    for place in range(start, len(line)):
        depth += {"(": 1, ")": -1}.get(line[place], 0)
        if depth == 0:
            return line[start:place]
    return line[start:]


def _launches(name: str, computations: Computations, *, in_loop: bool = False, times: int = 1) -> Iterator[Launch]:
    for each in computations.get(name, ()):
        inner, loop = _inner(each)
        trips = times * (_trips(each.line) if loop else 1)
        for computation in inner:
            yield from _launches(computation, computations, in_loop=in_loop or loop, times=trips)
        if inner or each.opcode in _FREE or each.opcode.endswith(("-done", "-update")):
            continue
        body = computations.get(each.called.get("calls", ("",))[0], ())
        moves = each.opcode in MOVES or (each.opcode == "fusion" and _only_moves(body))
        yield Launch(
            kind=_kind(each, moves),
            arrays=_written(each, body, computations[name]),
            moves=moves,
            placed=_placed(each, body),
            in_loop=in_loop,
            times=times,
            origin=_origin(each.line),
        )


def _inner(each: Instruction) -> tuple[tuple[str, ...], bool]:
    """Computations whose instructions are launched themselves, and whether they are a loop's."""
    if each.opcode == "while":
        return (*each.called.get("condition", ()), *each.called.get("body", ())), True
    if each.opcode == "call":
        return each.called.get("to_apply", ()), False
    if each.opcode == "conditional":
        names = ("branch_computations", "true_computation", "false_computation")
        return tuple(name for attribute in names for name in each.called.get(attribute, ())), False
    if each.opcode == "async-start":
        return each.called.get("calls", ()), False
    return (), False


def _trips(line: str) -> int:
    found = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', line)
    return int(found[1]) if found else 1


def _kind(each: Instruction, moves: bool) -> str:
    if each.opcode == "fusion":
        custom = re.search(r'"kind":"(__\w+)"', each.line)
        return custom[1] if custom else "moving fusion" if moves else "fusion"
    if each.opcode == "custom-call":
        target = re.search(r'custom_call_target="([^"]+)"', each.line)
        return target[1] if target else each.opcode
    return each.opcode


def _only_moves(body: Sequence[Instruction]) -> bool:
    opcodes = {each.opcode for each in body}
    return bool(opcodes & MOVES) and opcodes <= _BESIDE_MOVES and bool(opcodes - {"broadcast"} & MOVES)


def _written(each: Instruction, body: Sequence[Instruction], beside: Sequence[Instruction]) -> tuple[Array, ...]:
    """The arrays that an instruction writes: of an update in place, the update.

    Args:
      each: the instruction.
      body: of a fusion.
      beside: the instructions of its computation.
    """
    if each.opcode == "copy-start":
        # Its tuple holds the destination, the source and a context.
        return each.arrays[:1]
    root, among = each, beside
    if each.opcode == "fusion" and body:
        root, among = next((inner for inner in body if inner.root), each), body
    by_name = {other.name: other for other in among}
    root = _behind_bitcasts(root, by_name)
    if root.opcode == "dynamic-update-slice" and len(root.operands) > 1 and root.operands[1] in by_name:
        return by_name[root.operands[1]].arrays
    return each.arrays


def _placed(each: Instruction, body: Sequence[Instruction]) -> tuple[Array, ...]:
    """The results of a fusion that a move other than an update in place makes."""
    root = next((inner for inner in body if inner.root), None)
    if root is None:
        return ()
    by_name = {inner.name: inner for inner in body}
    parts = [by_name.get(name, root) for name in root.operands] if root.opcode == "tuple" else [root]
    made_by = [_behind_bitcasts(part, by_name).opcode for part in parts]
    return tuple(array for array, opcode in zip(each.arrays, made_by) if opcode in _REARRANGEMENTS)


def _behind_bitcasts(each: Instruction, by_name: Mapping[str, Instruction]) -> Instruction:
    while each.opcode == "bitcast" and each.operands and each.operands[0] in by_name:
        each = by_name[each.operands[0]]
    return each


def _origin(line: str) -> str:
    found = re.search(r'op_name="([^"]*)"', line)
    return found[1] if found else ""


def _reached(name: str, computations: Computations) -> Iterator[Instruction]:
    for each in computations.get(name, ()):
        yield each
        for computation in _inner(each)[0]:
            yield from _reached(computation, computations)


def _collectives(instructions: Iterable[Instruction]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for each in instructions:
        name = each.opcode.removesuffix("-start")
        if name in _COLLECTIVES:
            arrays, size = found.get(name, (0, 0))
            found[name] = arrays + len(each.arrays), size + sum(array.bytes for array in each.arrays)
    return found
