"""Pickles read as data.

A pickle is a program that could call any function. The interpreter here builds only dictionaries, lists, tuples, numbers and
texts, and calls only the functions of a given table. Objects of any other name become opaque `Foreign` values. Nothing is
imported, and work and memory are bounded by the size of the pickle.
"""

import dataclasses
import pickletools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

#: A checkpoint of the paper's network has 40,000 instructions, three times that with its optimiser.
_MAX_INSTRUCTIONS = 500_000
#: Values in the arguments of all calls together, which a call may copy. The tensors of that network need 30,000.
_MAX_ARGUMENTS = 1_000_000
#: Largest allowed integers in bits, and longest keys in characters.
_MAX_NUMBER_BITS, _MAX_KEY_LENGTH = 128, 1000


class Name(NamedTuple):
    """The global name of a class or function in a pickle."""

    module: str
    name: str


@dataclasses.dataclass(frozen=True, eq=False)
class Foreign:
    """A name that is not in the table, or an object of it, which is not built.

    Attributes:
      name: the name in the pickle.
    """

    name: str


def read_pickle(
    file: BinaryIO, names: Mapping[Name, Callable[..., Any] | None], persistent: Callable[[Any], Any]
) -> Any:
    """Reads the value of a pickle, and leaves the file at the pickle's end.

    Attributes of objects are left out, and so are entries of dictionaries whose keys are neither short texts nor numbers.

    Args:
      file: a file at the start of the pickle.
      names: the function to call for each known name; None for a name that is not called.
      persistent: resolves the identifier of an object outside of the pickle.

    Raises:
      ValueError: the pickle is damaged, too long, or has instructions that tensors do not need.
      IndexError: the pickle is damaged: the stack has too few values for an instruction.
      KeyError: the pickle is damaged: an instruction reads a value that was not stored.
    """
    interpreter = _Interpreter(names, persistent)
    for count, (instruction, argument) in enumerate(_instructions(file)):
        if instruction == "STOP":
            return interpreter.stack.pop()
        if count >= _MAX_INSTRUCTIONS:
            raise ValueError(f"it has more than {_MAX_INSTRUCTIONS:,} instructions")
        interpreter.execute(instruction, argument)
    raise ValueError("it has no end")


def _instructions(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    """The instructions by their names in `pickletools`, each with its argument."""
    try:
        for opcode, argument, _ in pickletools.genops(file):
            yield opcode.name, argument
    except ValueError:
        # The message of the standard library is for programmers.
        raise ValueError("its pickle has an instruction that cannot be read") from None


class _Interpreter:
    """The interpreter's state: the stack, the marks on it, and the memo."""

    def __init__(self, names: Mapping[Name, Callable[..., Any] | None], persistent: Callable[[Any], Any]) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._names, self._persistent = names, persistent
        self._arguments = 0

    def execute(self, instruction: str, argument: Any) -> None:
        """Executes one instruction, by its name in `pickletools`."""
        stack = self.stack
        match instruction:
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self._memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(self._memo[argument])
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "MARK":
                self._marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction])
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4":
                if argument.bit_length() > _MAX_NUMBER_BITS:
                    raise ValueError("it holds a number of many digits")
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8" | "UNICODE" | "STRING" | "BINSTRING":
                stack.append(argument)
            case "SHORT_BINSTRING" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "FLOAT" | "BINFLOAT":
                stack.append(argument)
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(instruction[-1]) if instruction != "EMPTY_TUPLE" else 0)))
            case "TUPLE":
                stack.append(tuple(self._pop_to_mark()))
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                stack.append(dictionary(_pairs(self._pop_to_mark())))
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                stack.append(self._pop_to_mark())
            case "SETITEM" | "SETITEMS":
                items = self._pop(2) if instruction == "SETITEM" else self._pop_to_mark()
                if isinstance(stack[-1], dict):
                    stack[-1].update(dictionary(_pairs(items)))
            case "APPEND" | "APPENDS":
                items = self._pop(1) if instruction == "APPEND" else self._pop_to_mark()
                if isinstance(stack[-1], list):
                    stack[-1].extend(items)
            case "EMPTY_SET":
                stack.append(Foreign("builtins.set"))
            case "FROZENSET":
                self._pop_to_mark()
                stack.append(Foreign("builtins.frozenset"))
            case "ADDITEMS":
                self._pop_to_mark()
            case "GLOBAL":
                stack.append(self._global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(self._global(*self._pop(2)))
            case "REDUCE" | "NEWOBJ" | "NEWOBJ_EX":
                function, *arguments = self._pop(3 if instruction == "NEWOBJ_EX" else 2)
                stack.append(self._call(function, arguments[0]))
            case "BINPERSID":
                identifier = stack.pop()
                self._count_arguments(identifier)
                stack.append(self._persistent(identifier))
            case "BUILD" | "POP":
                stack.pop()
            case "POP_MARK":
                self._pop_to_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PROTO" | "FRAME":
                pass
            case _:
                raise ValueError(f"it has the instruction {instruction}")

    def _global(self, module: Any, name: Any) -> Name | Foreign:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("it has a name that is not text")
        requested = Name(module, name)
        return requested if requested in self._names else Foreign(f"{module}.{name}")

    def _call(self, name: Any, arguments: Any) -> Any:
        """The result of a call."""
        if isinstance(name, Foreign):
            return name
        function = self._names.get(name) if isinstance(name, Name) else None
        if function is None or not isinstance(arguments, tuple):
            raise ValueError("it calls something that is not a function")
        self._count_arguments(arguments)
        for argument in arguments:
            self._count_arguments(argument)
        return function(*arguments)

    def _count_arguments(self, value: Any) -> None:
        """Limits the number of argument values, since one list may occur many times."""
        self._arguments += len(value) if isinstance(value, (list, tuple, dict)) else 0
        if self._arguments > _MAX_ARGUMENTS:
            raise ValueError(f"its calls have more than {_MAX_ARGUMENTS:,} argument values")

    def _pop(self, count: int) -> list[Any]:
        """Pops the last `count` values from the stack."""
        if len(self.stack) < count:
            raise IndexError("it takes more values than there are")
        start = len(self.stack) - count
        return self._pop_from(start)

    def _pop_to_mark(self) -> list[Any]:
        return self._pop_from(self._marks.pop())

    def _pop_from(self, start: int) -> list[Any]:
        values = self.stack[start:]
        del self.stack[start:]
        return values


def dictionary(pairs: Iterable[Any]) -> dict[Any, Any]:
    """A dictionary of the pairs whose keys are short texts or numbers; other keys could take long to compare.

    Raises:
      ValueError: an item is not a pair.
    """
    result: dict[Any, Any] = {}
    for key, value in pairs:
        if isinstance(key, int) or (isinstance(key, str) and len(key) <= _MAX_KEY_LENGTH):
            result[key] = value
    return result


def _pairs(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)
