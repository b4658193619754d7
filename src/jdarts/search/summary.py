"""The result of a search, as text and in the summary file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jdarts.files.json_data import Fields
from jdarts.genotype import Cell, Genotype
from jdarts.relaxation import Alphas, alphas_from_json, alphas_to_json
from jdarts.rich_forms import text_html
from jdarts.runs.folder import RunFolder
from jdarts.runs.summaries import Summary, read_summary, read_verdict


class SearchResult(NamedTuple):
    """The result of a search.

    Attributes:
      genotype: the discrete cells.
      alphas: architecture parameters at the end; those of the paper's mixture are `{'normal': [E, O], 'reduce': [E, O]}`.
      valid_accuracy: of the supernet on the alphas' half without augmentation, with running statistics, 0 to 1.
      folder: the run's folder.
      verdict: how far the search has decided, as `jdarts.methods.verdict.Verdict.to_json` has it; empty for a run that is older
        than that.
      cells_accuracy: accuracy of the supernet with the operations of the cells alone, as `valid_accuracy` is measured, but with
        the statistics that the selection reads; None where it was not asked for.
    """

    genotype: Genotype
    alphas: Alphas
    valid_accuracy: float
    folder: Path
    verdict: Mapping[str, Any] = MappingProxyType({})
    cells_accuracy: float | None = None

    def _repr_html_(self) -> str:
        return text_html("\n".join(self.lines()), self.genotype)

    def lines(self) -> list[str]:
        """The result as text, one line each."""
        path, alone = self.folder, self.cells_accuracy
        drawings = ", ".join(f"{path}/{kind}.svg" for kind in self.genotype.kinds)
        return [
            f"validation accuracy of the supernet: {100 * self.valid_accuracy:.2f} %",
            *([] if alone is None else [f"with the operations of its cells alone: {100 * alone:.2f} %"]),
            *self.verdict.get("text", ()),
            f"genotype: {self.genotype}",
            f"drawings: {drawings} (and .png); curves: {path}/curves.png",
            f"derive again at any time: python -m jdarts.derive {path}",
        ]

    def to_json(self) -> dict[str, Any]:
        """Accuracies, alphas and verdict."""
        fields = {"valid_accuracy": self.valid_accuracy, "alphas": alphas_to_json(self.alphas)}
        if self.cells_accuracy is not None:
            fields["cells_accuracy"] = self.cells_accuracy
        return fields | ({"verdict": dict(self.verdict)} if self.verdict else {})


SearchSummary = Summary[SearchResult]


class SeedsSummary(NamedTuple):
    """The results of several searches with different seeds.

    Attributes:
      found: one summary for each seed, in order.
    """

    found: tuple[SearchSummary, ...]

    @property
    def result(self) -> tuple[SearchResult, ...]:
        """The results, in the order of the seeds."""
        return tuple(each.result for each in self.found)

    def lines(self) -> list[str]:
        """The results as text: each search, the best one, and the differences between the genotypes."""
        results = self.result
        best = max(results, key=lambda result: result.valid_accuracy)
        accuracies = [100 * result.valid_accuracy for result in results]
        lines = [
            f"{result.folder}: {accuracy:.2f} %, {result.genotype}" for result, accuracy in zip(results, accuracies)
        ]
        lines.append(
            f"validation accuracy of the {len(results)} supernets: {min(accuracies):.2f} to {max(accuracies):.2f} %, mean "
            f"{np.mean(accuracies):.2f} %, standard deviation {np.std(accuracies):.2f}"
        )
        lines.append(f"different genotypes: {len({result.genotype for result in results})} of {len(results)}")
        kinds = results[0].genotype.kinds
        lines += [f"{kind} cells: {_spread([getattr(r.genotype, kind) for r in results])}" for kind in kinds]
        folders = " ".join(str(result.folder) for result in results)
        return [*lines, f"highest accuracy: {best.folder}", f"side by side: jdarts report {folders}"]


def _spread(cells: Sequence[Cell]) -> str:
    """The number of edges that all cells share, and the counts of each operation."""
    shared = len(set(cells[0]).intersection(*cells[1:]))
    counts = [Counter(operation for operation, _ in cell) for cell in cells]
    ranges = []
    for name in sorted(set().union(*counts)):
        least, most = min(count[name] for count in counts), max(count[name] for count in counts)
        ranges.append(f"{name} {least}" if least == most else f"{name} {least} to {most}")
    return f"{shared} of {max(map(len, cells))} edges in all of them; {', '.join(ranges)}"


def read(folder: RunFolder) -> SearchSummary:
    """Reads the summary of a finished run.

    Raises:
      InputError: it is damaged.
    """

    def parse(fields: Fields, genotype: Genotype) -> SearchResult:
        alphas = alphas_from_json(fields.get("alphas"), np.float32)
        accuracy = fields.number("valid_accuracy")
        alone = fields.number("cells_accuracy") if fields.has("cells_accuracy") else None
        return SearchResult(genotype, alphas, accuracy, folder.path, read_verdict(fields), alone)

    return read_summary(folder, Genotype, parse)
