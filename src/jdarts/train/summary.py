"""What a finished training has come to: written as the last file of a run, read back when it is started again."""

from pathlib import Path
from typing import NamedTuple

from jdarts.files.json_data import Fields
from jdarts.genotype import Genotype
from jdarts.report import duration
from jdarts.runs.folder import RunFolder
from jdarts.runs.summaries import read_summary, write_summary


class TrainResult(NamedTuple):
    """What a training has come to.

    Attributes:
      genotype: the cells.
      weights: number of the network's weights, without the auxiliary head.
      tested: which weights the accuracies belong to, `last` or `best`.
      checkpoint: the checkpoint that holds them, below the run's folder.
      train_accuracy: of the last epoch's steps, with augmentation and dropped paths, 0 to 1.
      valid_accuracy: on the held-out images, 0 to 1; None without them.
      test_accuracy: on the test images, 0 to 1; None where the test was left out.
      test_top5_accuracy: share of the test images whose label is among the five largest logits, 0 to 1; None for fewer
        than 100 classes, and where the test was left out.
      test_loss: mean cross entropy on the test images; None where the test was left out.
      seconds: time that the processes of the run have spent on it.
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


class Summary(NamedTuple):
    """A result with the effort that it took.

    Attributes:
      result: what the training has come to.
      epochs: epochs of the run.
      steps: steps of the run.
    """

    result: TrainResult
    epochs: int
    steps: int

    def lines(self) -> list[str]:
        """The result in words, one line each."""
        result = self.result
        path = result.folder
        lines = [f"finished: {self.epochs} epochs, {self.steps:,} steps in {duration(result.seconds)}"]
        which = "best epoch by validation" if result.tested == "best" else "last epoch"
        if result.valid_accuracy is not None:
            lines.append(f"validation accuracy, {which}: {100 * result.valid_accuracy:.2f} %")
        if result.test_accuracy is not None:
            error = 100 * (1 - result.test_accuracy)
            lines.append(f"test accuracy, {which}: {100 * result.test_accuracy:.2f} % (error {error:.2f} %)")
        if result.test_top5_accuracy is not None:
            lines.append(f"test accuracy, five guesses: {100 * result.test_top5_accuracy:.2f} %")
        return [*lines, f"weights: {path / result.checkpoint}; curves: {path}/curves.png"]


def write(summary: Summary, folder: RunFolder) -> None:
    """Writes the summary, which ends the run.

    Raises:
      InputError: the folder cannot be written, or the disk is full.
    """
    content = summary.result._asdict() | {"epochs": summary.epochs, "steps": summary.steps}
    del content["folder"]
    write_summary(folder, content)


def read(folder: RunFolder) -> Summary:
    """Reads the summary of a finished run.

    Raises:
      InputError: it is damaged.
    """

    def made(fields: Fields, genotype: Genotype) -> Summary:
        result = TrainResult(
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
        return Summary(result, fields.count("epochs"), fields.count("steps"))

    return read_summary(folder, Genotype, made)
