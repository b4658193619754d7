"""Accuracy against size: what a pipeline has found within each of its budgets."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jdarts.pipeline.arms import Arm, aligned, test_accuracy, with_spread

#: The name of the results within budgets, in the summary and of the pictures.
BUDGETS = "budgets"


class BudgetResult(NamedTuple):
    """The results within one budget.

    Attributes:
      bound: the largest number of weights of the trained network, without an auxiliary head; None for no bound.
      search: the searches within the bound.
      random: random cells within the bound, of the sizes of the searched ones.
    """

    bound: int | None
    search: Arm
    random: Arm

    @property
    def arms(self) -> tuple[Arm, Arm]:
        """Both."""
        return self.search, self.random

    @property
    def words(self) -> str:
        """The bound in words."""
        return "without a bound" if self.bound is None else f"within {self.bound:,}"

    def to_json(self) -> dict[str, Any]:
        """The bound, and the numbers of both arms."""
        return {"max_weights": self.bound, **{arm.name: arm.to_json() for arm in self.arms}}


def budgets_table(results: Sequence[BudgetResult]) -> str:
    """A table with a line for the searches and one for the random cells of each budget."""
    header = ("budget", "cells", "weights", "test of the chosen cells", "number", "their weights", "their validation")
    rows: list[tuple[str, ...]] = [header]
    for each in results:
        for arm in each.arms:
            bound = "none" if each.bound is None else f"{each.bound:,}"
            sizes = [candidate.size or 0 for candidate in arm.candidates]
            rows.append(
                (
                    bound,
                    arm.name,
                    f"{sizes[arm.chosen]:,}",
                    test_accuracy(arm),
                    str(len(sizes)),
                    f"{min(sizes):,} to {max(sizes):,}",
                    _mean_and_spread(candidate.valid_accuracy for candidate in arm.candidates),
                )
            )
    repeats = len(results[0].search.trainings)
    return "\n".join(
        [
            "accuracy against size: chosen cells with the best validation accuracy of a brief training, then all cells",
            *aligned(rows),
            f"tests are of {repeats} full training{'s' if repeats > 1 else ''}; ± is the standard deviation (with n − 1), over "
            "trainings for tests and over cells for validation",
        ]
    )


def _mean_and_spread(accuracies: Iterable[float]) -> str:
    listed = list(accuracies)
    return with_spread(statistics.fmean(listed), statistics.stdev(listed) if len(listed) > 1 else None)
