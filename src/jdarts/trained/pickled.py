"""Pickles read as data.

A pickle is a program that could call any function. Here a small machine follows its instructions: it builds dictionaries,
lists, tuples, numbers and texts, and calls the functions of a table for the names in it. What another name makes is a
`Foreign` value that nothing looks into. Nothing is imported, and work and memory are bounded by the size of the pickle.
"""

import dataclasses
import pickletools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

#: A checkpoint of the paper's network has 40,000 instructions, three times that with its optimiser.
_MOST_INSTRUCTIONS = 500_000
#: Values that all calls together take, which a call may copy. That network's tensors take 30,000.
_MOST_TAKEN = 1_000_000
#: Bits of numbers, and characters of keys, that are kept.
_LONGEST_NUMBER, _LONGEST_KEY = 128, 1000


class Name(NamedTuple):
    """A name that a pickle asks for; it stands for itself."""

    module: str
    name: str


@dataclasses.dataclass(frozen=True, eq=False)
class Foreign:
    """A name that is not in the table, or what it makes: nothing is known of it, and nothing is built.

    Attributes:
      name: the name that the pickle asks for.
    """

    name: str


def read_pickle(
    file: BinaryIO, names: Mapping[Name, Callable[..., Any] | None], persistent: Callable[[Any], Any]
) -> Any:
    """What a pickle holds; the file stands behind it afterwards.

    Entries of dictionaries whose keys are neither short texts nor numbers are left out, and attributes of objects.

    Args:
      file: stands where the pickle begins.
      names: what a call of each known name makes; None for a name that is not called.
      persistent: makes what an identifier of something outside of the pickle stands for.

    Raises:
      ValueError: damaged, too long, or with instructions that no tensors need.
      IndexError: damaged: an instruction takes more than there is.
      KeyError: damaged: an instruction asks for what was not kept.
    """
    machine = _Machine(names, persistent)
    for count, (instruction, argument) in enumerate(_instructions(file)):
        if instruction == "STOP":
            return machine.stack.pop()
        if count >= _MOST_INSTRUCTIONS:
            raise ValueError(f"it has more than {_MOST_INSTRUCTIONS:,} instructions")
        machine.follow(instruction, argument)
    raise ValueError("it has no end")


def _instructions(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    """The instructions by the names that `pickletools` gives them, each with its argument."""
    try:
        for opcode, argument, _ in pickletools.genops(file):
            yield opcode.name, argument
    except ValueError:
        # The standard library's words are for programmers.
        raise ValueError("its pickle has an instruction that cannot be read") from None


class _Machine:
    """The stack of a pickle, the places marked on it, and what is kept to be used again."""

    def __init__(self, names: Mapping[Name, Callable[..., Any] | None], persistent: Callable[[Any], Any]) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._kept: dict[int, Any] = {}
        self._names, self._persistent = names, persistent
        self._taken = 0

    def follow(self, instruction: str, argument: Any) -> None:
        """Follows one instruction, by the name that `pickletools` gives it."""
        stack = self.stack
        match instruction:
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self._kept[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(self._kept[argument])
            case "MEMOIZE":
                self._kept[len(self._kept)] = stack[-1]
            case "MARK":
                self._marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction])
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4":
                if argument.bit_length() > _LONGEST_NUMBER:
                    raise ValueError("it holds a number of many digits")
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8" | "UNICODE" | "STRING" | "BINSTRING":
                stack.append(argument)
            case "SHORT_BINSTRING" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "FLOAT" | "BINFLOAT":
                stack.append(argument)
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._last(int(instruction[-1]) if instruction != "EMPTY_TUPLE" else 0)))
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                stack.append(dictionary(_pairs(self._since_mark())))
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                stack.append(self._since_mark())
            case "SETITEM" | "SETITEMS":
                items = self._last(2) if instruction == "SETITEM" else self._since_mark()
                if isinstance(stack[-1], dict):
                    stack[-1].update(dictionary(_pairs(items)))
            case "APPEND" | "APPENDS":
                items = self._last(1) if instruction == "APPEND" else self._since_mark()
                if isinstance(stack[-1], list):
                    stack[-1].extend(items)
            case "EMPTY_SET":
                stack.append(Foreign("builtins.set"))
            case "FROZENSET":
                self._since_mark()
                stack.append(Foreign("builtins.frozenset"))
            case "ADDITEMS":
                self._since_mark()
            case "GLOBAL":
                stack.append(self._named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(self._named(*self._last(2)))
            case "REDUCE" | "NEWOBJ" | "NEWOBJ_EX":
                function, *arguments = self._last(3 if instruction == "NEWOBJ_EX" else 2)
                stack.append(self._made(function, arguments[0]))
            case "BINPERSID":
                identifier = stack.pop()
                self._take(identifier)
                stack.append(self._persistent(identifier))
            case "BUILD" | "POP":
                stack.pop()
            case "POP_MARK":
                self._since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PROTO" | "FRAME":
                pass
            case _:
                raise ValueError(f"it has the instruction {instruction}")

    def _named(self, module: Any, name: Any) -> Name | Foreign:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("it asks for a name that is no text")
        asked = Name(module, name)
        return asked if asked in self._names else Foreign(f"{module}.{name}")

    def _made(self, name: Any, arguments: Any) -> Any:
        """What a call makes."""
        if isinstance(name, Foreign):
            return name
        function = self._names.get(name) if isinstance(name, Name) else None
        if function is None or not isinstance(arguments, tuple):
            raise ValueError("it calls what is no function")
        self._take(arguments)
        for argument in arguments:
            self._take(argument)
        return function(*arguments)

    def _take(self, value: Any) -> None:
        """Counts the values that a call takes: one list may stand at many places."""
        self._taken += len(value) if isinstance(value, (list, tuple, dict)) else 0
        if self._taken > _MOST_TAKEN:
            raise ValueError(f"its calls take more than {_MOST_TAKEN:,} values")

    def _last(self, count: int) -> list[Any]:
        """Takes the last so many values from the stack."""
        if len(self.stack) < count:
            raise IndexError("it takes more values than there are")
        start = len(self.stack) - count
        return self._from(start)

    def _since_mark(self) -> list[Any]:
        return self._from(self._marks.pop())

    def _from(self, start: int) -> list[Any]:
        values = self.stack[start:]
        del self.stack[start:]
        return values


def dictionary(pairs: Iterable[Any]) -> dict[Any, Any]:
    """A dictionary of those pairs whose keys are short texts or numbers: other keys could take long to compare.

    Raises:
      ValueError: something is no pair.
    """
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if isinstance(key, int) or (isinstance(key, str) and len(key) <= _LONGEST_KEY):
            found[key] = value
    return found


def _pairs(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)
