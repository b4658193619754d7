"""What a finished training on text has come to: written as the last file of a run, read back when it is started again."""

from pathlib import Path
from typing import NamedTuple

from jdarts.files.json_data import Fields
from jdarts.genotype import RecurrentGenotype
from jdarts.report import duration
from jdarts.runs.folder import RunFolder
from jdarts.runs.summaries import read_summary, write_summary


class LanguageTrainResult(NamedTuple):
    """What a training on text has come to.

    Attributes:
      genotype: the cell.
      weights: number of the network's weights.
      averaged: whether weights came to be averaged.
      returns: how often the training went back to its best weights because something was not finite.
      best_perplexity: the lowest of the epochs' perplexities on the validation text.
      valid_perplexity: of the best weights on the validation text in `test_batch_size` columns; None without the test.
      test_perplexity: of the best weights on the test text; None where the test was left out.
      valid_unigram_perplexity: of a unigram model on the validation text.
      test_unigram_perplexity: of a unigram model on the test text.
      seconds: time that the processes of the run have spent on it.
      folder: the run's folder.
    """

    genotype: RecurrentGenotype
    weights: int
    averaged: bool
    returns: int
    best_perplexity: float
    valid_perplexity: float | None
    test_perplexity: float | None
    valid_unigram_perplexity: float
    test_unigram_perplexity: float
    seconds: float
    folder: Path


class Summary(NamedTuple):
    """A result with the effort that it took.

    Attributes:
      result: what the training has come to.
      epochs: epochs of the run.
      steps: steps of the run.
    """

    result: LanguageTrainResult
    epochs: int
    steps: int

    def lines(self) -> list[str]:
        """The result in words, one line each."""
        result = self.result
        lines = [
            f"finished: {self.epochs} epochs, {self.steps:,} steps in {duration(result.seconds)}",
            f"validation perplexity, best epoch: {result.best_perplexity:.2f} (unigram model "
            f"{result.valid_unigram_perplexity:.1f})",
        ]
        if result.test_perplexity is not None and result.valid_perplexity is not None:
            lines.append(
                f"best weights in the end: validation perplexity {result.valid_perplexity:.2f}, test perplexity "
                f"{result.test_perplexity:.2f} (unigram model {result.test_unigram_perplexity:.1f})"
            )
        return [*lines, f"weights: {result.folder}/checkpoints; curves: {result.folder}/curves.png"]


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

    def made(fields: Fields, genotype: RecurrentGenotype) -> Summary:
        result = LanguageTrainResult(
            genotype=genotype,
            weights=fields.count("weights"),
            averaged=fields.flag("averaged"),
            returns=fields.count("returns"),
            best_perplexity=fields.number("best_perplexity"),
            valid_perplexity=fields.optional(fields.number, "valid_perplexity"),
            test_perplexity=fields.optional(fields.number, "test_perplexity"),
            valid_unigram_perplexity=fields.number("valid_unigram_perplexity"),
            test_unigram_perplexity=fields.number("test_unigram_perplexity"),
            seconds=fields.seconds("seconds"),
            folder=folder.path,
        )
        return Summary(result, fields.count("epochs"), fields.count("steps"))

    return read_summary(folder, RecurrentGenotype, made)
