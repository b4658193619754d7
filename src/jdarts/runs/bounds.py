"""The numbers that a setting may be."""

import math
import numbers
from typing import Any, NamedTuple

from jdarts.errors import InputError
from jdarts.space import MAX_CELLS


def option(name: str) -> str:
    """The option of the command line that sets a field."""
    return f"--{name.replace('_', '-')}"


class Bounds(NamedTuple):
    """The numbers that a setting may be: whole ones where the least is an `int`.

    In the annotation of a field they are its bounds: `epochs: Annotated[int, Bounds(1, 1_000_000)] = 50`.

    Attributes:
      least: the smallest.
      most: the largest.
      wanted: what a message asks for in place of a smaller number.
      wanted_less: what a message asks for in place of a larger one.
    """

    least: float
    most: float
    wanted: str = ""
    wanted_less: str = ""

    def check(self, name: str, value: Any) -> None:
        """Raises an `InputError` for a value of the option `name` that is none of these numbers."""
        whole = isinstance(self.least, int)
        kind: Any = numbers.Integral if whole else numbers.Real
        if not isinstance(value, kind):
            raise InputError(f"{option(name)} is {value!r}; give a {'whole ' if whole else ''}number")
        if not self.least <= value <= self.most:
            raise InputError(f"{option(name)} is {_number_text(value)}; give {self._wanted_for(value)}")

    def _wanted_for(self, value: Any) -> str:
        if value > self.most or (self.wanted and value > 0):
            return self.wanted_less or f"a number from {self.least} to {self.most}"
        return self.wanted or f"{self.least} or more"


#: Numbers that reach the arithmetic of a step are within the normal numbers of float32, their reciprocals too.
_SMALLEST, _LARGEST = 1e-37, 1e38
POSITIVE = Bounds(_SMALLEST, _LARGEST, "a number above 0")
NOT_NEGATIVE = Bounds(0.0, _LARGEST, "0 or more")
BELOW_ONE = Bounds(0.0, math.nextafter(1, 0), *("a number from 0 to below 1",) * 2)
WITHIN_ONE = Bounds(_SMALLEST, math.nextafter(1, 0), *("a number between 0 and 1",) * 2)
UP_TO_ONE = Bounds(_SMALLEST, 1.0, *("a number above 0, up to 1",) * 2)
SEED = Bounds(0, 2**32 - 1, wanted_less="a number below 2^32")
EPOCHS = Bounds(1, 1_000_000)

#: Sizes of networks. A network of the largest does not fit any machine; its shapes can still be counted.
CHANNELS = Bounds(1, 65_536)
CELLS = Bounds(1, MAX_CELLS)
NODES = Bounds(1, 32)
VOCABULARY = Bounds(1, 1_000_000_000)
WIDTH = Bounds(1, 1_000_000)


def _number_text(value: Any) -> str:
    # Python writes no whole numbers of more than 4,300 digits.
    digits = isinstance(value, int) and value.bit_length() // 3
    return f"a number of about {digits:,} digits" if digits > 1000 else str(value)
