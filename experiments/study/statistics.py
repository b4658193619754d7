"""Means, spreads and intervals of measured numbers, and how they are written."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import scipy.stats


class Interval(NamedTuple):
    """A mean and the interval that holds the true one with a probability of 95 %.

    Attributes:
      mean: of the numbers.
      low: lower end; NaN for one number.
      high: upper end; NaN for one number.
    """

    mean: float
    low: float
    high: float

    def text(self, digits: int = 2) -> str:
        """`0.81 [0.74, 0.88]`, or the mean alone if there is no interval; empty if there is no mean."""
        if np.isnan(self.mean):
            return ""
        ends = "" if np.isnan(self.low) else f" [{self.low:.{digits}f}, {self.high:.{digits}f}]"
        return f"{self.mean:.{digits}f}{ends}"

    def overlaps(self, other: "Interval") -> bool:
        """Whether two intervals have a number in common; without an end nothing is told apart."""
        return not (self.low > other.high or other.low > self.high)


def mean_interval(values: Sequence[float], probability: float = 0.95) -> Interval:
    """The mean of independent numbers, one for each seed, with Student's interval."""
    numbers = np.asarray(values, float)
    mean, count = float(np.mean(numbers)), len(numbers)
    if count < 2:
        return Interval(mean, np.nan, np.nan)
    half = float(scipy.stats.t.ppf((1 + probability) / 2, count - 1) * np.std(numbers, ddof=1) / np.sqrt(count))
    return Interval(mean, mean - half, mean + half)


def difference_interval(values: Sequence[float], others: Sequence[float]) -> Interval:
    """The mean difference of two rows of numbers that belong together in pairs, such as by seed."""
    return mean_interval(np.asarray(values, float) - np.asarray(others, float))  # pyright: ignore[reportArgumentType]


def unpaired_interval(values: Sequence[float], others: Sequence[float], probability: float = 0.95) -> Interval:
    """The difference of the means of two rows of independent numbers, with Welch's interval."""
    mean = float(np.mean(values) - np.mean(others))
    if min(len(values), len(others)) < 2:
        return Interval(mean, np.nan, np.nan)
    test: Any = scipy.stats.ttest_ind(values, others, equal_var=False)
    found = test.confidence_interval(probability)
    return Interval(mean, float(found.low), float(found.high))


def bootstrap_interval(
    groups: Sequence[Any], statistic: Callable[[list[Any]], float], *, draws: int = 2000, probability: float = 0.95
) -> Interval:
    """A statistic of all groups, with the interval of draws of whole groups with replacement.

    Args:
      groups: independent groups, such as the numbers of each seed.
      statistic: from a list of groups to a number.
      draws: number of draws; their seed is fixed.
      probability: of the interval.
    """
    value = statistic(list(groups))
    if len(groups) < 2:
        return Interval(value, np.nan, np.nan)
    random = np.random.default_rng(0)
    drawn = [
        statistic([groups[place] for place in random.integers(len(groups), size=len(groups))]) for _ in range(draws)
    ]
    low, high = np.nanquantile(drawn, [(1 - probability) / 2, (1 + probability) / 2])
    return Interval(value, float(low), float(high))


def mean_and_spread(values: Sequence[float] | np.ndarray, digits: int) -> str:
    """`98.10 ± 0.32`: mean and standard deviation (with n − 1); the mean alone of one number."""
    numbers = np.asarray(values, float)
    spread = f" ± {np.std(numbers, ddof=1):.{digits}f}" if len(numbers) > 1 else ""
    return f"{np.mean(numbers):.{digits}f}{spread}"


def slope(predicted: np.ndarray, real: np.ndarray) -> float:
    """Of the line through the origin that fits the real numbers best; NaN if nothing is predicted."""
    squares = float(predicted @ predicted)
    return float(predicted @ real) / squares if squares > 0 else float("nan")


def correlation(predicted: np.ndarray, real: np.ndarray) -> float:
    """The cosine of the angle between predicted and real numbers: the correlation about the origin; NaN for zeros."""
    lengths = float(np.linalg.norm(predicted) * np.linalg.norm(real))
    return float(predicted @ real) / lengths if lengths > 0 else float("nan")


def relative_error(predicted: np.ndarray, real: np.ndarray) -> float:
    """`‖predicted − real‖ / ‖real‖`: 0 for a perfect prediction, 1 for a prediction of nothing; NaN for zeros."""
    length = float(np.linalg.norm(real))
    return float(np.linalg.norm(predicted - real)) / length if length > 0 else float("nan")


def kendall_tau(values: Sequence[float], others: Sequence[float]) -> float:
    """Kendall's τ-b of two rankings: 1 where they agree, −1 where one is the reverse of the other."""
    found: Any = scipy.stats.kendalltau(values, others)
    return float(found.statistic)


def chance_of_mean(shares: Sequence[float]) -> float:
    """The chance that the mean of as many numbers, drawn uniformly from 0 to 1, is not above that of these (Irwin and Hall).

    Args:
      shares: numbers from 0 to 1, such as the ranks of cells divided by the number of all cells.
    """
    count = len(shares)
    total = sum(map(Fraction, shares), Fraction(0))
    terms = (
        (-1) ** place * math.comb(count, place) * (total - place) ** count
        for place in range(count + 1)
        if total > place
    )
    return float(sum(terms, Fraction(0)) / math.factorial(count))
