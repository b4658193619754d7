"""The result of a pipeline, as numbers and as a table."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
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
    """

    seed: int
    genotype: Genotype
    supernet_accuracy: float | None
    brief: TrainResult | None
    search_seconds: float
    cells_accuracy: float | None = None

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
                }
                for candidate in self.candidates
            ],
        }


class PipelineResult(NamedTuple):
    """The result of a pipeline.

    Attributes:
      arms: the searches, and the baseline if there is one.
      folder: the pipeline's folder.
    """

    arms: tuple[Arm, ...]
    folder: Path

    @property
    def genotype(self) -> Genotype:
        """The selected cells of the searches."""
        return self.arms[0].genotype

    def table(self) -> str:
        """A table of all candidates, and the test results of the chosen ones."""
        rows = [("cells", "seed", "supernet", "validation", "weights", "time", "test of the chosen cells")]
        for arm in self.arms:
            for index, candidate in enumerate(arm.candidates):
                rows.append(
                    (
                        arm.name,
                        str(candidate.seed),
                        "" if candidate.supernet_accuracy is None else _percent(candidate.supernet_accuracy),
                        _percent(candidate.valid_accuracy),
                        "" if candidate.weights is None else f"{candidate.weights:,}",
                        duration(candidate.search_seconds + candidate.brief_seconds),
                        _test_accuracy(arm) if index == arm.chosen else "",
                    )
                )
        return "\n".join([*_aligned(rows), "", *(line for arm in self.arms for line in _summary_lines(arm))])

    def to_json(self) -> dict[str, Any]:
        """The numbers as JSON data, by the name of the arm."""
        return {arm.name: arm.to_json() for arm in self.arms}


def _test_accuracy(arm: Arm) -> str:
    spread = "" if arm.std is None else f" ± {100 * arm.std:.2f}"
    return f"{100 * arm.mean:.2f}{spread} %"


def _summary_lines(arm: Arm) -> list[str]:
    runs = len(arm.trainings)
    count = "one full training" if runs == 1 else f"{runs} full trainings (mean ± standard deviation)"
    error = 100 * (1 - arm.mean)
    spread = "" if arm.std is None else f" ± {100 * arm.std:.2f}"
    return [
        f"{arm.name}: test accuracy {_test_accuracy(arm)}, error {error:.2f}{spread} %, of {count}; "
        f"choosing took {duration(arm.choosing_seconds)}, training {duration(arm.training_seconds)}",
        f"{arm.name}: {arm.genotype}",
    ]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:]))]).rstrip()
        for row in rows
    ]
