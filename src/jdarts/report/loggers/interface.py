"""What a logger is."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np


class EpochCells(NamedTuple):
    """What an epoch of a search shows besides numbers.

    Attributes:
      epoch: its number, counted from 1.
      picture: the cells as a PNG; None where they are those of the epoch before.
      alphas: weights of the mixture `[E, O]` by kind of cell.
    """

    epoch: int
    picture: bytes | None
    alphas: Mapping[str, np.ndarray]


class Logger(Protocol):
    """Shows the numbers and cells of one run somewhere. All methods raise an `InputError` where they fail."""

    def write(self, step: int, now: float, numbers: Mapping[str, float], epoch: int | None) -> None:
        """Logs a record.

        Args:
          step: the step of the numbers, counted from 1.
          now: seconds since 1970.
          numbers: by name.
          epoch: the epoch, counted from 1, whose means the record holds; None for the record of a step.
        """
        ...

    def write_cells(self, step: int, now: float, cells: EpochCells) -> None:
        """Logs the cells and alphas at the end of an epoch."""
        ...

    def close(self, *, failed: bool) -> None:
        """Ends the logging of this process.

        Args:
          failed: whether an error or an interruption ended the run; the same command may resume it.
        """
        ...
