"""Bounds of the numbers in a configuration."""

import math
import numbers
from typing import Any, NamedTuple

from jdarts.errors import InputError
from jdarts.space import MAX_CELLS


def option(name: str) -> str:
    """The option of the command line that sets a field."""
    return f"--{name.replace('_', '-')}"


class Bounds(NamedTuple):
    """The bounds of a setting, given in the annotation of its field: `epochs: Annotated[int, Bounds(1, 1_000_000)] = 50`.

    Attributes:
      minimum: the smallest number; an `int` allows whole numbers only.
      maximum: the largest number.
      if_below: what the message for a smaller number asks for.
      if_above: what the message for a larger number asks for.
    """

    minimum: float
    maximum: float
    if_below: str = ""
    if_above: str = ""

    def check(self, name: str, value: Any) -> None:
        """Raises an `InputError` if the value of the option `name` is outside the bounds."""
        whole = isinstance(self.minimum, int)
        kind: Any = numbers.Integral if whole else numbers.Real
        if not isinstance(value, kind):
            raise InputError(f"{option(name)} is {value!r}; give a {'whole ' if whole else ''}number")
        if not self.minimum <= value <= self.maximum:
            raise InputError(f"{option(name)} is {_number_text(value)}; give {self._advice_for(value)}")

    def _advice_for(self, value: Any) -> str:
        if value > self.maximum or (self.if_below and value > 0):
            return self.if_above or f"a number from {self.minimum} to {self.maximum}"
        return self.if_below or f"{self.minimum} or more"


#: Numbers that reach the arithmetic of a step are within the normal numbers of float32, their reciprocals too.
_SMALLEST, _LARGEST = 1e-37, 1e38
POSITIVE = Bounds(_SMALLEST, _LARGEST, "a number above 0")
NOT_NEGATIVE = Bounds(0.0, _LARGEST, "0 or more")
BELOW_ONE = Bounds(0.0, math.nextafter(1, 0), *("a number from 0 to below 1",) * 2)
WITHIN_ONE = Bounds(_SMALLEST, math.nextafter(1, 0), *("a number between 0 and 1",) * 2)
UP_TO_ONE = Bounds(_SMALLEST, 1.0, *("a number above 0, up to 1",) * 2)
SEED = Bounds(0, 2**32 - 1, if_above="a number below 2^32")
EPOCHS = Bounds(1, 1_000_000)

#: Sizes of networks. The largest ones fit no machine, but their shapes can still be counted.
CHANNELS = Bounds(1, 65_536)
CELLS = Bounds(1, MAX_CELLS)
NODES = Bounds(1, 32)
VOCABULARY = Bounds(1, 1_000_000_000)
WIDTH = Bounds(1, 1_000_000)


def _number_text(value: Any) -> str:
    # Python writes no whole numbers of more than 4,300 digits.
    digits = isinstance(value, int) and value.bit_length() // 3
    return f"a number of about {digits:,} digits" if digits > 1000 else str(value)
