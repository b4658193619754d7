"""Integer programs: the values of variables, 0 or 1 each, with the largest sum of gains within linear bounds."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np


class Program(NamedTuple):
    """An integer program.

    Attributes:
      whole: bool `[V]`, which variables are 0 or 1; the others are between them.
      rows: `[R, V]`, sums of variables.
      smallest: `[R]`, the smallest value of each sum.
      largest: `[R]`, the largest one.
    """

    whole: np.ndarray
    rows: np.ndarray
    smallest: np.ndarray
    largest: np.ndarray

    @classmethod
    def of(cls, whole: np.ndarray, rows: list[tuple[np.ndarray, float, float]]) -> "Program":
        """The program of rows, each with its smallest and its largest value."""
        sums, smallest, largest = zip(*rows)
        return cls(whole, np.stack(sums), np.array(smallest, float), np.array(largest, float))

    def best(self, gains: np.ndarray) -> np.ndarray | None:
        """The values of the variables, bool `[V]`, with the largest sum of gains; None if no values keep the bounds."""
        from scipy import optimize  # takes long to import

        # On this scale the solver's smallest gap, 1e-6, is a ten-billionth of the differences.
        scaled = 1e4 * gains / max(np.ptp(gains), 1e-30)
        found: Any = optimize.milp(
            -scaled,
            integrality=self.whole.astype(float),
            bounds=optimize.Bounds(0, 1),
            constraints=optimize.LinearConstraint(self.rows, self.smallest, self.largest),  # pyright: ignore[reportArgumentType]
            options={"mip_rel_gap": 0},
        )
        return None if found.x is None else found.x > 0.5

    def solutions(self, gains: np.ndarray) -> Iterator[np.ndarray]:
        """All solutions, those with the largest sums of gains first; each is as `best` returns it.

        The arithmetic of the solver is rounded: where a bound must hold to the unit, the first solution that keeps it counts.
        """
        program = self
        while (found := program.best(gains)) is not None:
            yield found
            program = program._without(found)

    def _without(self, found: np.ndarray) -> "Program":
        """The same program without one of its solutions."""
        row = (found & self.whole).astype(float)
        return self._replace(
            rows=np.vstack([self.rows, row]),
            smallest=np.append(self.smallest, 0.0),
            largest=np.append(self.largest, row.sum() - 1),
        )


def at_most(costs: np.ndarray, most: int) -> tuple[np.ndarray, float, float]:
    """The row that bounds a sum of costs, whole numbers of 0 or more, for `Program.of`."""
    unit = math.gcd(*map(int, costs)) or 1
    # Costs are whole numbers of the unit: half a unit of room lets the solver round.
    return np.array(costs, float) / unit, -np.inf, most // unit + 0.5
