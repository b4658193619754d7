"""Genotypes in texts as people paste them: a line of a log, a `genotypes.py`, a shell's quotes. Nothing is ever evaluated."""

import ast
import functools
import itertools
import re
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

from jdarts.errors import InputError
from jdarts.operations import ACTIVATIONS, NONE, OPERATIONS

#: The most characters of a text that may be a genotype.
MAX_CHARACTERS = 2_000_000
#: The most characters of it outside quotes; the paper's have 360, or 2,000 with each value on a separate line.
_MAX_CODE = 50_000
#: The most genotypes in one text, and the characters before each in which its name is looked for.
_MAX_GENOTYPES, _NAME_BEFORE = 50_000, 100

_FIELD = r"(?:normal|normal_concat|reduce|reduce_concat|recurrent|concat|edges_per_node)"
# Python finds the places where a pattern may begin several times as fast if each of its alternatives begins with a character.
_CALL = r"Genotype\s{0,9}\(|RecurrentGenotype\s{0,9}\("
#: A dictionary or a JSON object, perhaps within a log, that begins with a genotype's field.
_FIELDS = (
    rf"d(?<=\bd)ict\s{{0,9}}\(\s{{0,99}}{_FIELD}\s{{0,9}}=|\{{\s{{0,99}}\\{{0,8}}[\"']{_FIELD}\\{{0,8}}[\"']\s{{0,9}}:"
)
#: The name of an operation with a size, known or unknown.
_SIZED = r"[a-z_]{3,30}(?:_?[1-9]x[1-9]){1,2}"
#: A quoted text without an end ends with its line, so that no character is read twice.
_QUOTED = r"""'(?:\\.|[^'\\\n])*'?|"(?:\\.|[^"\\\n])*"?"""
_INSIDE = rf"\(|\)|\{{|\}}|\\.|#[^\n]*|{_QUOTED}"
_IN_CALL, _IN_FIELDS = (re.compile(f"{start}|{_INSIDE}") for start in (_CALL, f"{_CALL}|{_FIELDS}"))
#: The first characters of a call, of a dictionary or an object, and of a piece.
_OF_CALL, _OF_FIELDS, _OF_EDGES = ("G", "R"), ("d", "{"), ("(", "[")
_TEXTS = re.compile(_QUOTED)
_ESCAPED_QUOTE = re.compile(r"\\{1,8}(['\"])")
#: The text before a genotype, from its end to its beginning: the module of the class, the name that it is assigned to.
_BEFORE = re.compile(
    r"\n?(?!\\)(?:\s?\.\s?\w{1,60}){0,3}[\"']?\\{0,8}\s{0,9}[=:](?:[^=\n\"']{0,60}:)?\s{0,9}[\"']?\\{0,8}(\w{1,60})(?!\w)"
)
_DEFINITION = re.compile(r"(?:class|def)\s{1,9}$")
#: Colour codes of terminals, and the entities of quotes and spaces in web pages.
_COLOURS = re.compile(r"\x1b\[[0-9;]{0,40}[A-Za-z]")
_ENTITIES = re.compile(r"&(?:(#39|#x27|apos)|(quot|#34|#x22)|nbsp|#160);")
#: Quotes and spaces as word processors and web pages change them.
_TYPOGRAPHY = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " ", "\ufeff": " "})
_QUOTES = ("'", '"', "`")
#: Calls that print numbers and lists: NumPy's and PyTorch's.
_NUMBERS, _LISTS = re.compile(r"u?int(8|16|32|64|p|_)?|str_|intp|longlong"), ("array", "asarray", "tensor", "Array")


class Pasted(NamedTuple):
    """A genotype in a text.

    Attributes:
      name: the name that it is assigned to, or None.
      line: where it begins, from 1.
      text: the call, or the dictionary of fields; None if it is cut off.
    """

    name: str | None
    line: int
    text: str | None


class Arguments(NamedTuple):
    """The arguments of a genotype's call.

    Attributes:
      function: the name that is called, without its module.
      values: by position.
      by_name: by name; `**` for unpacked ones.
    """

    function: str
    values: list[Any]
    by_name: list[tuple[str, Any]]


class NotPlain(ValueError):
    """A value in a call is not made of plain lists, numbers and texts.

    Attributes:
      name: of the argument; None for one by position.
      place: of the argument among those by position.
      source: its text.
    """

    def __init__(self, name: str | None, place: int, source: str) -> None:
        super().__init__(source)
        self.name, self.place, self.source = name, place, source


class _Patterns(NamedTuple):
    """Patterns that hold the names of operations.

    Attributes:
      start: where a genotype begins, or a piece of one whose beginning is damaged: edges that stand outside of a genotype.
      edge: an edge.
    """

    start: re.Pattern[str]
    edge: re.Pattern[str]


def _patterns() -> _Patterns:
    aliases = (alias for row in OPERATIONS.values() for alias in row.aliases)
    return _patterns_of((NONE, *OPERATIONS, *aliases, *ACTIVATIONS))


@functools.cache
def _patterns_of(names: tuple[str, ...]) -> _Patterns:
    known = "|".join(name for name in names if not re.fullmatch(_SIZED, name))
    edge = rf"\s{{0,9}}b?\\{{0,8}}[\"'](?:{_SIZED}|{known})\\{{0,8}}[\"']\s{{0,9}},\s{{0,9}}[0-9]{{1,3}}\s{{0,9}}[)\]]"
    edges = rf"{edge}[\s,]{{0,9}}(?:[(\[]{edge}[\s,]{{0,9}})*"
    return _Patterns(re.compile(rf"{_CALL}|{_FIELDS}|\({edges}|\[{edges}"), re.compile(rf"[(\[]{edge}"))


def is_genotype_text(text: str) -> bool:
    """Whether a text is a genotype itself, and not a name or a path."""
    return plain_text(text).lstrip().startswith(("{", "[")) or bool(_patterns().start.search(plain_text(text)))


def plain_text(text: str) -> str:
    """A text with ASCII quotes and spaces, without colours and without quotes around all of it."""
    text = _COLOURS.sub("", text.translate(_TYPOGRAPHY))
    text = _ENTITIES.sub(lambda found: "'" if found[1] else '"' if found[2] else " ", text)
    for _ in range(3):
        inner = text.strip()
        if len(inner) < 2 or inner[0] not in _QUOTES or inner[-1] != inner[0]:
            break
        try:
            quoted = inner[0] != "`" and len(inner) <= MAX_CHARACTERS
            text = str(ast.literal_eval(_parsed(inner))) if quoted else inner[1:-1]
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            text = inner[1:-1]
    return text


def pasted_genotypes(text: str) -> Iterator[Pasted]:
    """The genotypes in a text, in order: complete ones, ones that the next one or the end of the text cuts off, and pieces.

    Raises:
      InputError: there are too many.
    """
    end, line, counted = 0, 1, 0
    search = _patterns().start.search
    for _ in range(_MAX_GENOTYPES):
        opened = search(text, end)
        if opened is None:
            return
        start, before = opened.start(), text[max(opened.start() - _NAME_BEFORE, 0) : opened.start()]
        if opened[0].startswith(_OF_CALL) and _DEFINITION.search(before):
            end = opened.end()
            continue
        end, complete = (opened.end(), False) if opened[0].startswith(_OF_EDGES) else _closed(text, opened)
        line, counted = line + text.count("\n", counted, start), start
        name = _BEFORE.match(before[::-1])
        yield Pasted(name[1][::-1] if name else None, line, text[start:end] if complete else None)
    raise InputError(
        f"genotype: the text is too long, with more than {_MAX_GENOTYPES:,} genotypes; name the one that is meant by its line, "
        "or give it alone"
    )


def pasted_in_line(text: str, line: int) -> list[Pasted]:
    """The genotypes that begin in one line of a text, counted from 1."""
    lines = text.split("\n", line - 1)
    if not 0 < line <= len(lines):
        return []
    found = itertools.takewhile(lambda each: each.line == 1, pasted_genotypes(lines[-1]))
    return [each._replace(line=line) for each in found]


def has_genotype_syntax(text: str, fields: tuple[str, ...]) -> bool:
    """Whether a text that cannot be read is a genotype with an error, and not alphas or a mention of the class."""
    plain = "".join(text.split())
    if plain.startswith(("{", "dict(")):
        return (
            any(field in plain for field in ("normal_concat", "reduce_concat", "recurrent"))
            or _patterns().edge.search(text) is not None
        )
    return "[" in plain or "((" in plain or any(f"{field}=" in plain for field in fields)


def alias_target(text: str, name: str) -> str | None:
    """The other name that a text assigns to a name, as in `DARTS = DARTS_V2`; None if there is none."""
    match = re.search(rf"^{re.escape(name)}\s{{0,9}}=\s{{0,9}}(\w{{1,60}})\s*$", text, re.MULTILINE)
    return match[1] if match else None


def arguments_of(call: str) -> Arguments | None:
    """The arguments of a call as plain values; None if the text is not a call of a genotype.

    Raises:
      NotPlain: an argument is anything but lists, numbers and texts.
    """
    call = _ESCAPED_QUOTE.sub(r"\1", call)
    if len(_TEXTS.sub("", call)) > _MAX_CODE:
        return None
    try:
        node = _parsed(call).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if isinstance(node, ast.Dict):
        names = [key.value if isinstance(key, ast.Constant) else "**" for key in node.keys]
        return Arguments(
            "dict", [], [(str(name), _field(str(name), 0, value, call)) for name, value in zip(names, node.values)]
        )
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return None
    values = [_field(None, place, value, call) for place, value in enumerate(node.args)]
    by_name = [
        (keyword.arg or "**", _field(keyword.arg, 0, keyword.value, call) if keyword.arg else None)
        for keyword in node.keywords
    ]
    return Arguments(node.func.id, values, by_name)


def _parsed(text: str) -> ast.Expression:
    with warnings.catch_warnings():
        # Python warns about the syntax of damaged texts, such as `1if 1`, and would print them.
        warnings.simplefilter("ignore")
        return ast.parse(text, mode="eval")


def _closed(text: str, opened: re.Match[str]) -> tuple[int, bool]:
    """Where a genotype ends, and whether its bracket is closed there; otherwise the next one or the end cuts it off."""
    left, right = "{}" if opened[0].startswith("{") else "()"
    depth = 1
    inside = _IN_CALL if opened[0].startswith(_OF_CALL) else _IN_FIELDS
    for match in inside.finditer(text, opened.start() + opened[0].index(left) + 1):
        found = match[0]
        if found == left:
            depth += 1
        elif found == right:
            depth -= 1
            if depth == 0:
                return match.end(), True
        elif len(found) > 1 and found.startswith((*_OF_CALL, *_OF_FIELDS)):
            return match.start(), False
    return len(text), False


def _field(name: str | None, place: int, node: ast.expr, call: str) -> Any:
    try:
        return _listed(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise NotPlain(name, place, ast.get_source_segment(call, node) or "") from None


def _listed(node: ast.expr) -> Any:
    """A plain value, or a list written as a range or a set."""
    match node:
        case ast.Call(func=ast.Name(id="range"), args=arguments, keywords=[]):
            bounds = [_value(argument) for argument in arguments]
            # A range of a cell's states is short. A long one would only fill the memory.
            if not all(type(bound) is int and 0 <= bound <= 1000 for bound in bounds):
                raise ValueError
            return tuple(range(*bounds))
        case ast.Call(func=ast.Name(id="list" | "tuple"), args=[inner], keywords=[]):
            return _listed(inner)
        case ast.List(elts=[ast.Starred(value=inner)]) | ast.Tuple(elts=[ast.Starred(value=inner)]):
            return _listed(inner)
        case ast.Set(elts=elements) if all(isinstance(element, ast.Constant) for element in elements):
            return tuple(_value(element) for element in elements)
        case _:
            return _value(node)


def _value(node: ast.expr) -> Any:
    """A plain value, or the number or list in a call that prints one, as in `np.int64(3)` and `array([2, 3])`."""
    match node:
        case ast.List(elts=elements):
            return [_value(element) for element in elements]
        case ast.Tuple(elts=elements):
            return tuple(_value(element) for element in elements)
        case ast.Constant(value=bytes(letters)):
            return letters.decode("ascii")
        case ast.Call(func=function, args=[inner, *_]) if (name := _last_name(function)) is not None:
            value = _value(inner)
            if name in _LISTS or (_NUMBERS.fullmatch(name) and not isinstance(value, (list, tuple, float))):
                return value
            raise ValueError
        case _:
            return ast.literal_eval(node)


def _last_name(function: ast.expr) -> str | None:
    match function:
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(), attr=name):
            return name
        case _:
            return None
