"""What a pipeline has found in one way: candidate cells, the chosen ones, and their full trainings. Also as a table."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jdarts.genotype import Genotype
from jdarts.report import duration
from jdarts.train import TrainResult


class Candidate(NamedTuple):
    """Candidate cells of the selection.

    Attributes:
      seed: seed that found or drew them; a baseline that learns counts its cells from the first seed.
      genotype: the cells.
      supernet_accuracy: of the supernet at the end of the search, 0 to 1; None for cells without one.
      brief: the result of the brief training; None where supernets are compared.
      search_seconds: time of the search; 0 for cells without one.
      cells_accuracy: of the supernet with the operations of the cells alone, 0 to 1, where supernets are compared.
      size: number of weights of the network of the full trainings without an auxiliary head, where budgets bound it.
    """

    seed: int
    genotype: Genotype
    supernet_accuracy: float | None
    brief: TrainResult | None
    search_seconds: float
    cells_accuracy: float | None = None
    size: int | None = None

    @property
    def valid_accuracy(self) -> float:
        """The criterion of the selection: accuracy of the brief training on held-out images, or of the supernet, 0 to 1."""
        accuracy = self.cells_accuracy if self.brief is None else self.brief.valid_accuracy
        assert accuracy is not None
        return accuracy

    @property
    def weights(self) -> int | None:
        """Number of weights of the network of the brief training."""
        return None if self.brief is None else self.brief.weights

    @property
    def brief_seconds(self) -> float:
        """Time of the brief training."""
        return 0.0 if self.brief is None else self.brief.seconds


class Arm(NamedTuple):
    """One way of finding cells, and its results.

    Attributes:
      name: `search`, or that of the baseline.
      candidates: all cells, in the order of their seeds.
      chosen: index of the selected cells.
      trainings: results of the full trainings of the selected cells.
    """

    name: str
    candidates: tuple[Candidate, ...]
    chosen: int
    trainings: tuple[TrainResult, ...]

    @property
    def genotype(self) -> Genotype:
        """The chosen cells."""
        return self.candidates[self.chosen].genotype

    @property
    def test_accuracies(self) -> tuple[float, ...]:
        """Test accuracy of each full training, 0 to 1."""
        return tuple(result.test_accuracy for result in self.trainings if result.test_accuracy is not None)

    @property
    def mean(self) -> float:
        """Mean test accuracy of the full trainings, 0 to 1."""
        return statistics.fmean(self.test_accuracies)

    @property
    def std(self) -> float | None:
        """Standard deviation of the test accuracies (with n − 1); None for a single training."""
        return statistics.stdev(self.test_accuracies) if len(self.test_accuracies) > 1 else None

    @property
    def choosing_seconds(self) -> float:
        """Time of all searches and brief trainings."""
        return sum(candidate.search_seconds + candidate.brief_seconds for candidate in self.candidates)

    @property
    def training_seconds(self) -> float:
        """Time of all full trainings."""
        return sum(result.seconds for result in self.trainings)

    def with_sizes(self, size: Callable[[Genotype], int]) -> "Arm":
        """The same with the sizes of its cells."""
        return self._replace(candidates=tuple(each._replace(size=size(each.genotype)) for each in self.candidates))

    def to_json(self) -> dict[str, Any]:
        """The numbers as JSON data."""
        return {
            "genotype": json.loads(self.genotype.to_json()),
            "chosen": self.chosen,
            "test_accuracies": self.test_accuracies,
            "mean": self.mean,
            "std": self.std,
            "weights": self.trainings[0].weights,
            "choosing_seconds": self.choosing_seconds,
            "training_seconds": self.training_seconds,
            "candidates": [
                {
                    "seed": candidate.seed,
                    "genotype": json.loads(candidate.genotype.to_json()),
                    "supernet_accuracy": candidate.supernet_accuracy,
                    "valid_accuracy": candidate.valid_accuracy,
                    "weights": candidate.weights,
                    "search_seconds": candidate.search_seconds,
                    "brief_seconds": candidate.brief_seconds,
                    **({} if candidate.size is None else {"size": candidate.size}),
                }
                for candidate in self.candidates
            ],
        }


def arms_table(arms: Mapping[str, Arm]) -> str:
    """A table of all candidates, and the test results of the chosen ones.

    Args:
      arms: by their names in the table.
    """
    rows = [("cells", "seed", "supernet", "validation", "weights", "time", "test of the chosen cells")]
    for name, arm in arms.items():
        for index, candidate in enumerate(arm.candidates):
            size = candidate.weights if candidate.size is None else candidate.size
            rows.append(
                (
                    name,
                    str(candidate.seed),
                    "" if candidate.supernet_accuracy is None else percent(candidate.supernet_accuracy),
                    percent(candidate.valid_accuracy),
                    "" if size is None else f"{size:,}",
                    duration(candidate.search_seconds + candidate.brief_seconds),
                    test_accuracy(arm) if index == arm.chosen else "",
                )
            )
    return "\n".join([*aligned(rows), "", *(line for name, arm in arms.items() for line in _summary_lines(name, arm))])


def test_accuracy(arm: Arm) -> str:
    """The mean test accuracy of an arm's full trainings, with its spread."""
    return with_spread(arm.mean, arm.std)


def with_spread(mean: float, std: float | None) -> str:
    """An accuracy with its standard deviation: `97.21 ± 0.30 %`."""
    spread = "" if std is None else f" ± {100 * std:.2f}"
    return f"{100 * mean:.2f}{spread} %"


def _summary_lines(name: str, arm: Arm) -> list[str]:
    runs = len(arm.trainings)
    count = "one full training" if runs == 1 else f"{runs} full trainings (mean ± standard deviation)"
    return [
        f"{name}: test accuracy {test_accuracy(arm)}, error {with_spread(1 - arm.mean, arm.std)}, of {count}; "
        f"choosing took {duration(arm.choosing_seconds)}, training {duration(arm.training_seconds)}",
        f"{name}: {arm.genotype}",
    ]


def percent(fraction: float) -> str:
    """A share of 1 in percent."""
    return f"{100 * fraction:.2f} %"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:]))]).rstrip()
        for row in rows
    ]
