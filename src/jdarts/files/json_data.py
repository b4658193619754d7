"""JSON data that a person or another program may have changed: parsing, and fields with checked types."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

Value = TypeVar("Value")

#: A larger number cannot be the count of anything in a run.
MAX_COUNT = 2**53
#: A billion years in seconds.
MAX_SECONDS = 3e16


def parse_json(text: str | bytes) -> Any:
    """Parses JSON.

    Raises:
      ValueError: it is not JSON, not UTF-8, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class Fields:
    """The fields of a JSON object.

    Args:
      content: JSON data.

    Raises:
      ValueError: it is not an object. The methods raise it too, if a field is missing or of another kind.
    """

    def __init__(self, content: Any) -> None:
        if not isinstance(content, dict):
            raise ValueError(f"{_shown(content)} is not a JSON object")
        self._content = content

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that there are."""
        return tuple(self._content)

    def has(self, name: str) -> bool:
        """Whether there is such a field."""
        return name in self._content

    def get(self, name: str) -> Any:
        """A field of any kind."""
        if name not in self._content:
            raise ValueError(f"{name} is missing")
        return self._content[name]

    def count(self, name: str) -> int:
        """A whole number of 0 or more."""
        value = self.get(name)
        if not _is_count(value):
            raise self._wrong(name, "a whole number of 0 or more")
        return value

    def number(self, name: str) -> float:
        """A number, infinities and NaN included."""
        number = as_number(self.get(name))
        if number is None:
            raise self._wrong(name, "a number")
        return number

    def seconds(self, name: str) -> float:
        """A length of time."""
        seconds = self.number(name)
        if not 0 <= seconds <= MAX_SECONDS:
            raise self._wrong(name, "a length of time in seconds")
        return seconds

    def text(self, name: str) -> str:
        """A text."""
        value = self.get(name)
        if not isinstance(value, str):
            raise self._wrong(name, "a text")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.get(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self.get(name)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._wrong(name, "a list of texts")
        return tuple(value)

    def listed(self, name: str) -> list[Any]:
        """A list of anything."""
        value = self.get(name)
        if not isinstance(value, list):
            raise self._wrong(name, "a list")
        return value

    def objects(self, name: str) -> list["Fields"]:
        """A list of JSON objects."""
        return list(map(Fields, self.listed(name)))

    def table(self, name: str) -> np.ndarray:
        """A list of lists of numbers, all of one length: float64 `[rows, columns]`."""
        value = self.get(name)
        rows = value if isinstance(value, list) and all(isinstance(row, list) for row in value) else []
        numbers = [[as_number(each) for each in row] for row in rows]
        if not numbers or len({len(row) for row in numbers}) > 1 or any(None in row for row in numbers):
            raise self._wrong(name, "a table of numbers")
        return np.array(numbers, np.float64)

    def optional(self, read: Callable[[str], Value], name: str) -> Value | None:
        """A field that may be null, read by one of the other methods."""
        return None if self.get(name) is None else read(name)

    def _wrong(self, name: str, right: str) -> ValueError:
        return ValueError(f"{name} is {_shown(self.get(name))}, not {right}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def as_number(value: Any) -> float | None:
    """A JSON number as a float; None for anything else, and for integers that no float holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def shortest(numbers: Any) -> Any:
    """Numbers of float32 as JSON data: a number, or nested lists, of the shortest decimals that round to them."""
    numbers = np.asarray(numbers, np.float32)
    return [shortest(each) for each in numbers] if numbers.ndim else float(str(numbers[()]))


def _shown(value: Any) -> str:
    if isinstance(value, int) and not -(10**30) < value < 10**30:
        return "an integer of more than 30 digits"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
