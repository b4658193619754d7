"""Genotypes in texts as people paste them: a line of a log, a `genotypes.py`, a shell's quotes. Nothing is ever evaluated."""

import ast
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

#: Characters of the longest text that is taken for a genotype.
LONGEST = 2_000_000
#: Characters of it that are not part of a quoted text; the paper's have 360, with a value on each line 2,000.
_LONGEST_CODE = 50_000
#: Calls that are read from one text, and characters before each in which its name is looked for.
_MOST_CALLS, _NAME_BEFORE = 10_000, 100
#: Characters in which calls are looked for that nothing closes.
_MOST_CUT_OFF = 4_000_000

_CALL = re.compile(r"(?:Recurrent)?Genotype\s{0,9}\(")
#: What stands before a call: the name that it is assigned to, the module that the class is taken from.
_BEFORE = re.compile(r"(?:(\w{1,60})\s{0,9}(?::[^=\n]{0,60})?[=:]\s{0,9})?(?:\w{1,60}\s?\.\s?){0,3}$")
_ENDS_BEFORE = ("=", ":", ".")
_DEFINITION = re.compile(r"(?:class|def)\s{1,9}$")
_QUOTED = re.compile(r"""'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*\"""")
_BRACKETS_AND_TEXTS = re.compile(rf"[()]|{_QUOTED.pattern}")
#: What word processors and web pages make of quotes and spaces.
_TYPOGRAPHY = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " ", "\ufeff": " "})
_QUOTES = ("'", '"', "`")
#: Calls that print numbers and lists: NumPy's and PyTorch's.
_NUMBERS, _LISTS = re.compile(r"u?int(8|16|32|64|p|_)?|str_|intp|longlong"), ("array", "asarray", "tensor", "Array")


class Pasted(NamedTuple):
    """A genotype in a text.

    Attributes:
      name: what it is assigned to; None where there is no name.
      line: where it begins, from 1.
      text: the call itself.
    """

    name: str | None
    line: int
    text: str


class Arguments(NamedTuple):
    """What a genotype's call is given.

    Attributes:
      function: the name that is called, without its module.
      values: by position.
      named: by name; `**` for what is unpacked.
    """

    function: str
    values: list[Any]
    named: list[tuple[str, Any]]


class NotPlain(ValueError):
    """A value in a call is not plain lists, numbers and texts.

    Attributes:
      name: of the argument; None for one by position.
      place: of the argument among those by position.
      source: its text.
    """

    def __init__(self, name: str | None, place: int, source: str) -> None:
        super().__init__(source)
        self.name, self.place, self.source = name, place, source


def is_genotype_text(text: str) -> bool:
    """Whether this is meant as a genotype itself, not as a name or a place."""
    return plain_text(text).lstrip().startswith(("{", "[")) or bool(_CALL.search(text))


def plain_text(text: str) -> str:
    """A text with typewriter's quotes and spaces, and without quotes around all of it."""
    text = text.translate(_TYPOGRAPHY)
    for _ in range(3):
        inner = text.strip()
        if len(inner) < 2 or inner[0] not in _QUOTES or inner[-1] != inner[0]:
            break
        try:
            text = str(ast.literal_eval(inner)) if inner[0] != "`" and len(inner) <= LONGEST else inner[1:-1]
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            text = inner[1:-1]
    return text


def pasted_genotypes(text: str) -> Iterator[Pasted]:
    """The genotypes in a text, in order. Calls that are not closed are passed over."""
    calls, cut_off, end = 0, 0, 0
    line, counted = 1, 0
    while calls < _MOST_CALLS and cut_off < _MOST_CUT_OFF and (found := _CALL.search(text, end)):
        start, end, calls = found.start(), found.end(), calls + 1
        before = text[max(start - _NAME_BEFORE, 0) : start]
        if _DEFINITION.search(before):
            continue
        stop = _closed(text, found.end() - 1)
        if stop is None:
            cut_off += min(LONGEST, len(text) - start)
            continue
        line, counted = line + text.count("\n", counted, start), start
        named = _BEFORE.search(before) if before.rstrip().endswith(_ENDS_BEFORE) else None
        yield Pasted(named[1] if named else None, line, text[start:stop])
        end = stop


def alias_in(text: str, name: str) -> str | None:
    """What a name is set to in a text, where that is another name, as in `DARTS = DARTS_V2`."""
    found = re.search(rf"^{re.escape(name)}\s{{0,9}}=\s{{0,9}}(\w{{1,60}})\s*$", text, re.MULTILINE)
    return found[1] if found else None


def arguments_of(call: str) -> Arguments | None:
    """The arguments of a call as plain values; None where the text is no call of a genotype.

    Raises:
      NotPlain: an argument is anything but lists, numbers and texts.
    """
    if len(_QUOTED.sub("", call)) > _LONGEST_CODE:
        return None
    if "\\'" in call or '\\"' in call:
        call = call.replace("\\'", "'").replace('\\"', '"')
    try:
        node = ast.parse(call, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return None
    values = [_field(None, place, value, call) for place, value in enumerate(node.args)]
    named = [
        (keyword.arg or "**", _field(keyword.arg, 0, keyword.value, call) if keyword.arg else None)
        for keyword in node.keywords
    ]
    return Arguments(node.func.id, values, named)


def _closed(text: str, start: int) -> int | None:
    """Where a bracket that opens is closed; None where it is not, or too far away."""
    depth = 0
    for found in _BRACKETS_AND_TEXTS.finditer(text, start, min(start + LONGEST, len(text))):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if depth == 0:
            return found.end()
    return None


def _field(name: str | None, place: int, node: ast.expr, call: str) -> Any:
    try:
        match node:
            case ast.Call(func=ast.Name(id="range"), args=arguments, keywords=[]):
                bounds = [_value(argument) for argument in arguments]
                # A range of a cell's states is short; a long one would only fill the memory.
                if not all(type(bound) is int and 0 <= bound <= 1000 for bound in bounds):
                    raise ValueError
                return tuple(range(*bounds))
            case _:
                return _value(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise NotPlain(name, place, ast.get_source_segment(call, node) or "") from None


def _value(node: ast.expr) -> Any:
    """A plain value, or the number or list in a call that prints one, as in `np.int64(3)` and `array([2, 3])`."""
    match node:
        case ast.List(elts=elements):
            return [_value(element) for element in elements]
        case ast.Tuple(elts=elements):
            return tuple(_value(element) for element in elements)
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
