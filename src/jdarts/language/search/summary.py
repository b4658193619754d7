"""The result of a search on text, as text and in the summary file."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jdarts.files.json_data import Fields
from jdarts.genotype import RecurrentGenotype
from jdarts.relaxation import Alphas, alphas_from_json, alphas_to_json
from jdarts.rich_forms import text_html
from jdarts.runs.folder import RunFolder
from jdarts.runs.summaries import Summary, read_summary, read_verdict


class LanguageSearchResult(NamedTuple):
    """The result of a search on text.

    Attributes:
      genotype: the discrete cell.
      alphas: architecture parameters at the end; those of the paper's mixture are `[E, O]`.
      valid_perplexity: of the supernet on the whole validation text, which has trained the alphas.
      valid_unigram_perplexity: of a unigram model on the validation text.
      test_perplexity: of the supernet on the whole test text, which has trained nothing.
      test_unigram_perplexity: of a unigram model on the test text.
      folder: the run's folder.
      verdict: how far the search has decided, as for `jdarts.search.SearchResult`.
      cells_perplexity: of the supernet with the operations of the cell alone, on the validation text; None where it was not asked
        for.
    """

    genotype: RecurrentGenotype
    alphas: Alphas
    valid_perplexity: float
    valid_unigram_perplexity: float
    test_perplexity: float
    test_unigram_perplexity: float
    folder: Path
    verdict: Mapping[str, Any] = MappingProxyType({})
    cells_perplexity: float | None = None

    def _repr_html_(self) -> str:
        return text_html("\n".join(self.lines()), self.genotype)

    def lines(self) -> list[str]:
        """The result as text, one line each."""
        path, alone = self.folder, self.cells_perplexity
        return [
            f"validation perplexity of the supernet: {self.valid_perplexity:.1f} (unigram model "
            f"{self.valid_unigram_perplexity:.1f})",
            f"test perplexity of the supernet: {self.test_perplexity:.1f} (unigram model "
            f"{self.test_unigram_perplexity:.1f})",
            *([] if alone is None else [f"with the operations of its cell alone: validation perplexity {alone:.1f}"]),
            *self.verdict.get("text", ()),
            f"genotype: {self.genotype}",
            f"drawings: {path}/recurrent.svg (and .png); curves: {path}/curves.png",
            f"derive again at any time: python -m jdarts.derive {path}",
        ]

    def to_json(self) -> dict[str, Any]:
        """All fields but genotype and folder, and those that there are not."""
        fields = self._asdict()
        del fields["genotype"], fields["folder"], fields["verdict"]
        fields |= {"verdict": dict(self.verdict)} if self.verdict else {}
        if self.cells_perplexity is None:
            del fields["cells_perplexity"]
        return fields | {"alphas": alphas_to_json(self.alphas)}


def read(folder: RunFolder) -> Summary[LanguageSearchResult]:
    """Reads the summary of a finished run.

    Raises:
      InputError: it is damaged.
    """

    def parse(fields: Fields, genotype: RecurrentGenotype) -> LanguageSearchResult:
        alone = fields.number("cells_perplexity") if fields.has("cells_perplexity") else None
        return LanguageSearchResult(
            genotype=genotype,
            alphas=alphas_from_json(fields.get("alphas"), np.float32),
            valid_perplexity=fields.number("valid_perplexity"),
            valid_unigram_perplexity=fields.number("valid_unigram_perplexity"),
            test_perplexity=fields.number("test_perplexity"),
            test_unigram_perplexity=fields.number("test_unigram_perplexity"),
            folder=folder.path,
            verdict=read_verdict(fields),
            cells_perplexity=alone,
        )

    return read_summary(folder, RecurrentGenotype, parse)
