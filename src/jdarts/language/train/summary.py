"""The result of a training on text, and its form in the summary file."""

from pathlib import Path
from typing import Any, NamedTuple

from jdarts.files.json_data import Fields
from jdarts.genotype import RecurrentGenotype
from jdarts.rich_forms import text_html
from jdarts.runs.folder import RunFolder
from jdarts.runs.summaries import Summary, read_summary


class LanguageTrainResult(NamedTuple):
    """The result of a training on text.

    Attributes:
      genotype: the cell.
      weights: number of the network's weights.
      averaged: whether weights were averaged.
      returns: how often the training returned to its best weights because a value was not finite.
      best_perplexity: the lowest of the epochs' perplexities on the validation text.
      valid_perplexity: of the best weights on the validation text in `test_batch_size` columns; None without the test.
      test_perplexity: of the best weights on the test text; None without a test.
      valid_unigram_perplexity: of a unigram model on the validation text.
      test_unigram_perplexity: of a unigram model on the test text.
      seconds: time that the processes of the run have taken.
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

    def _repr_html_(self) -> str:
        return text_html("\n".join(self.lines()), self.genotype)

    def lines(self) -> list[str]:
        """The result as text, one line each."""
        lines = [
            f"validation perplexity, best epoch: {self.best_perplexity:.2f} (unigram model "
            f"{self.valid_unigram_perplexity:.1f})"
        ]
        if self.test_perplexity is not None and self.valid_perplexity is not None:
            lines.append(
                f"best weights in the end: validation perplexity {self.valid_perplexity:.2f}, test perplexity "
                f"{self.test_perplexity:.2f} (unigram model {self.test_unigram_perplexity:.1f})"
            )
        return [*lines, f"weights: {self.folder}/checkpoints; curves: {self.folder}/curves.png"]

    def to_json(self) -> dict[str, Any]:
        """All fields but genotype and folder."""
        fields = self._asdict()
        del fields["genotype"], fields["folder"]
        return fields


def read(folder: RunFolder) -> Summary[LanguageTrainResult]:
    """Reads the summary of a finished run.

    Raises:
      InputError: it is damaged.
    """

    def parse(fields: Fields, genotype: RecurrentGenotype) -> LanguageTrainResult:
        return LanguageTrainResult(
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

    return read_summary(folder, RecurrentGenotype, parse)
