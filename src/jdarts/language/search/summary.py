"""What a finished search on text has found: written as the last file of a run, read back when it is started again."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jdarts.files.json_data import Fields
from jdarts.genotype import RecurrentGenotype
from jdarts.report import duration
from jdarts.runs.folder import RunFolder
from jdarts.runs.summaries import read_summary, write_summary


class LanguageSearchResult(NamedTuple):
    """What a search on text has found.

    Attributes:
      genotype: the discrete cell.
      alphas: architecture parameters at the end, `[E, O]`.
      valid_perplexity: of the supernet on the whole validation text, which the alphas have learnt on.
      valid_unigram_perplexity: of a unigram model there.
      test_perplexity: of the supernet on the whole test text, which nothing was learnt on.
      test_unigram_perplexity: of a unigram model there.
      folder: the run's folder.
    """

    genotype: RecurrentGenotype
    alphas: np.ndarray
    valid_perplexity: float
    valid_unigram_perplexity: float
    test_perplexity: float
    test_unigram_perplexity: float
    folder: Path


class Summary(NamedTuple):
    """A result with the effort that it took.

    Attributes:
      result: what was found.
      epochs: epochs of the run.
      steps: steps of the run.
      seconds: time that the processes of the run have spent on it.
    """

    result: LanguageSearchResult
    epochs: int
    steps: int
    seconds: float

    def lines(self) -> list[str]:
        """The result in words, one line each."""
        result = self.result
        path = result.folder
        return [
            f"finished: {self.epochs} epochs, {self.steps:,} steps in {duration(self.seconds)}",
            f"validation perplexity of the supernet: {result.valid_perplexity:.1f} (unigram model "
            f"{result.valid_unigram_perplexity:.1f})",
            f"test perplexity of the supernet: {result.test_perplexity:.1f} (unigram model "
            f"{result.test_unigram_perplexity:.1f})",
            f"genotype: {result.genotype}",
            f"drawings: {path}/recurrent.svg (and .png); curves: {path}/curves.png",
            f"derive again at any time: python -m jdarts.derive {path}",
        ]


def write(summary: Summary, folder: RunFolder) -> None:
    """Writes the summary, which ends the run.

    Raises:
      InputError: the folder cannot be written, or the disk is full.
    """
    content = summary.result._asdict() | summary._asdict()
    del content["folder"], content["result"]
    content["alphas"] = summary.result.alphas.tolist()
    write_summary(folder, content)


def read(folder: RunFolder) -> Summary:
    """Reads the summary of a finished run.

    Raises:
      InputError: it is damaged.
    """

    def made(fields: Fields, genotype: RecurrentGenotype) -> Summary:
        result = LanguageSearchResult(
            genotype=genotype,
            alphas=fields.table("alphas").astype(np.float32),
            valid_perplexity=fields.number("valid_perplexity"),
            valid_unigram_perplexity=fields.number("valid_unigram_perplexity"),
            test_perplexity=fields.number("test_perplexity"),
            test_unigram_perplexity=fields.number("test_unigram_perplexity"),
            folder=folder.path,
        )
        return Summary(result, fields.count("epochs"), fields.count("steps"), fields.seconds("seconds"))

    return read_summary(folder, RecurrentGenotype, made)
