"""The result of a training, as text and in the summary file."""

from pathlib import Path
from typing import Any, NamedTuple

from jdarts.files.json_data import Fields
from jdarts.genotype import Genotype
from jdarts.rich_forms import text_html
from jdarts.runs.folder import RunFolder
from jdarts.runs.summaries import Summary, read_summary


class TrainResult(NamedTuple):
    """The result of a training.

    Attributes:
      genotype: the cells.
      weights: number of the network's weights, without the auxiliary head.
      tested: the weights that the accuracies belong to, `last` or `best`.
      checkpoint: the checkpoint of these weights, below the run's folder.
      train_accuracy: of the last epoch's steps, with augmentation and dropped paths, 0 to 1.
      valid_accuracy: on the held-out images, 0 to 1; None without them.
      test_accuracy: on the test images, 0 to 1; None without a test.
      test_top5_accuracy: share of the test images whose label is among the five largest logits, 0 to 1; None for fewer
        than 100 classes or without a test.
      test_loss: mean cross entropy on the test images; None without a test.
      seconds: time that the processes of the run have taken.
      folder: the run's folder.
    """

    genotype: Genotype
    weights: int
    tested: str
    checkpoint: str
    train_accuracy: float
    valid_accuracy: float | None
    test_accuracy: float | None
    test_top5_accuracy: float | None
    test_loss: float | None
    seconds: float
    folder: Path

    def _repr_html_(self) -> str:
        return text_html("\n".join(self.lines()), self.genotype)

    def lines(self) -> list[str]:
        """The result as text, one line each."""
        lines = []
        which = "best epoch by validation" if self.tested == "best" else "last epoch"
        if self.valid_accuracy is not None:
            lines.append(f"validation accuracy, {which}: {100 * self.valid_accuracy:.2f} %")
        if self.test_accuracy is not None:
            error = 100 * (1 - self.test_accuracy)
            lines.append(f"test accuracy, {which}: {100 * self.test_accuracy:.2f} % (error {error:.2f} %)")
        if self.test_top5_accuracy is not None:
            lines.append(f"test accuracy, five guesses: {100 * self.test_top5_accuracy:.2f} %")
        return [
            *lines,
            f"weights: {self.folder / self.checkpoint}; curves: {self.folder}/curves.png",
            f"classify pictures: python -m jdarts.predict {self.folder} PICTURES",
        ]

    def to_json(self) -> dict[str, Any]:
        """All fields but genotype and folder."""
        fields = self._asdict()
        del fields["genotype"], fields["folder"]
        return fields


def read(folder: RunFolder) -> Summary[TrainResult]:
    """Reads the summary of a finished run.

    Raises:
      InputError: it is damaged.
    """

    def parse(fields: Fields, genotype: Genotype) -> TrainResult:
        return TrainResult(
            genotype=genotype,
            weights=fields.count("weights"),
            tested=fields.text("tested"),
            checkpoint=fields.text("checkpoint"),
            train_accuracy=fields.number("train_accuracy"),
            valid_accuracy=fields.optional(fields.number, "valid_accuracy"),
            test_accuracy=fields.optional(fields.number, "test_accuracy"),
            test_top5_accuracy=fields.optional(fields.number, "test_top5_accuracy"),
            test_loss=fields.optional(fields.number, "test_loss"),
            seconds=fields.seconds("seconds"),
            folder=folder.path,
        )

    return read_summary(folder, Genotype, parse)
