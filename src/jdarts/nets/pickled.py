"""Pickles read as data.

A pickle is a program that could call any function. Here a small machine follows its instructions: it builds dictionaries,
lists, tuples, numbers and texts, and calls the functions of a table for the names in it. Nothing is imported, and work and
memory are bounded by the size of the pickle.
"""

import pickletools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, NamedTuple

#: A checkpoint of the paper's network has 40,000 instructions, three times that with its optimiser.
_MOST_INSTRUCTIONS = 500_000
#: Bits of numbers, and characters of keys, that are kept.
_LONGEST_NUMBER, _LONGEST_KEY = 128, 1000


class Name(NamedTuple):
    """A name that a pickle asks for; it stands for itself."""

    module: str
    name: str


class ForeignName(Exception):
    """A pickle asks for a name that is not in the table."""

    def __init__(self, name: Name) -> None:
        super().__init__(f"{name.module}.{name.name}")


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
      ForeignName: the pickle asks for a name that is not known.
      ValueError: damaged, too long, or with instructions that no tensors need.
      IndexError: damaged: an instruction takes more than there is.
      KeyError: damaged: an instruction asks for what was not kept.
    """
    machine = _Machine(names, persistent)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name == "STOP":
            return machine.stack.pop()
        if count >= _MOST_INSTRUCTIONS:
            raise ValueError(f"it has more than {_MOST_INSTRUCTIONS:,} instructions")
        machine.follow(opcode.name, argument)
    raise ValueError("it has no end")


class _Machine:
    """The stack of a pickle, the places marked on it, and what is kept to be used again."""

    def __init__(self, names: Mapping[Name, Callable[..., Any] | None], persistent: Callable[[Any], Any]) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._kept: dict[int, Any] = {}
        self._names, self._persistent = names, persistent

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
            case "GLOBAL":
                stack.append(self._known(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(self._known(*map(str, self._last(2))))
            case "REDUCE" | "NEWOBJ":
                name, arguments = self._last(2)
                function = self._names.get(name) if isinstance(name, Name) else None
                if function is None or not isinstance(arguments, tuple):
                    raise ValueError("it calls what is no function")
                stack.append(function(*arguments))
            case "BINPERSID":
                stack.append(self._persistent(stack.pop()))
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

    def _known(self, module: str, name: str) -> Name:
        asked = Name(module, name)
        if asked not in self._names:
            raise ForeignName(asked)
        return asked

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
