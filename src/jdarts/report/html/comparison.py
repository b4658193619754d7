"""Several runs side by side: their names, groups, scores, and the agreement of their cells."""

import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jdarts.genotype import AnyGenotype
from jdarts.report.cell_figure import cell_kinds_of
from jdarts.report.html.alphas import chosen_edges
from jdarts.report.html.run_data import RunData, finite_number

#: Settings that do not put runs into different groups.
_SEEDS = ("seed",)
#: A longer value in the name of a group is cut.
_LONGEST = 40

#: Where a score stands, what it is called, and whether it is a share; the first that a run has counts.
_SCORES = (
    ("test_accuracy", "test accuracy", True),
    ("test_perplexity", "test perplexity", False),
    ("valid_accuracy", "validation accuracy", True),
    ("valid_perplexity", "validation perplexity", False),
    ("evaluation_accuracy", "validation accuracy", True),
    ("evaluation_perplexity", "validation perplexity", False),
)


class Score(NamedTuple):
    """The number by which runs are compared.

    Attributes:
      name: in words.
      value: the number.
      is_share: whether it is a share from 0 to 1; else a perplexity.
    """

    name: str
    value: float
    is_share: bool

    def text(self) -> str:
        """The number as text."""
        return f"{100 * self.value:.2f} %" if self.is_share else f"{self.value:.2f}"


class Group(NamedTuple):
    """Runs whose settings differ in the seed alone.

    Attributes:
      name: the settings in which it differs from other groups.
      runs: indices of its runs.
    """

    name: str
    runs: tuple[int, ...]


class EdgeCount(NamedTuple):
    """How often the cells of several runs have an edge.

    Attributes:
      source: state where it starts, as in `jdarts.report.html.alphas.edges_of`.
      node: node where it ends.
      cells: number of cells that have it.
      operations: how many of them have which operation.
    """

    source: int
    node: int
    cells: int
    operations: Counter[str]


def labels(folders: Sequence[Path]) -> list[str]:
    """Names of runs: the last parts of their paths, as many as tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    longest = max(map(len, parts))
    for count in range(1, longest + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(set(parts)):
            break
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def score(run: RunData) -> Score | None:
    """The score of a run: of its test, its end or its last epoch."""
    numbers = {**(run.epochs[-1].numbers if run.epochs else {}), **run.summary}
    for name, words, is_share in _SCORES:
        value = finite_number(numbers, name)
        if value is not None:
            words = words.replace("validation", "held-out") if run.kind == "training" else words
            return Score(words, value, is_share)
    return None


def decided_share(run: RunData) -> float | None:
    """The share of decided edges after the last epoch, over all cells; None where it is unknown."""
    last = run.epochs[-1].numbers if run.epochs else {}
    found = [value for name, value in last.items() if name.startswith("guards_decided_")]
    return sum(found) / len(found) if found else None


def groups(runs: Sequence[RunData]) -> list[Group]:
    """Runs in groups, in the order of their first run."""
    settings = [{"kind": run.kind, **run.settings} for run in runs]
    names = dict.fromkeys(name for each in settings for name in each if name not in _SEEDS)
    different = [name for name in names if len({_key(each.get(name)) for each in settings}) > 1]
    found: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, each in enumerate(settings):
        found[tuple(_key(each.get(name)) for name in different)].append(index)
    # A setting that follows from another one makes names longer and says nothing.
    telling = _telling(different, list(found))
    return [
        Group(
            ", ".join(_words(name, values[different.index(name)]) for name in telling) or "all runs",
            tuple(members),
        )
        for values, members in found.items()
    ]


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation (with n − 1); None for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def agreement(runs: Sequence[RunData], kind: str) -> Mapping[tuple[int, int], float]:
    """The share of edges with their operations that two runs' cells have in common, by the indices of the runs."""
    cells = {index: Counter(edges) for index, edges in _cells(runs, kind).items()}
    return {
        (one, other): sum((cells[one] & cells[other]).values())
        / max(sum(cells[one].values()), sum(cells[other].values()), 1)
        for one, other in itertools.product(cells, repeat=2)
    }


def edge_counts(runs: Sequence[RunData], kind: str) -> list[EdgeCount]:
    """The edges of all cells of a kind, the most frequent first."""
    found: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    of_cells: Counter[tuple[int, int]] = Counter()
    for cell in _cells(runs, kind).values():
        of_cells.update({edge for edge, _ in cell})
        for edge, operation in cell:
            found[edge][operation] += 1
    edges = [EdgeCount(*edge, of_cells[edge], operations) for edge, operations in found.items()]
    return sorted(edges, key=lambda each: (-each.cells, each.node, each.source))


def finders(runs: Sequence[RunData]) -> dict[int, AnyGenotype]:
    """The cells that runs have found, by the indices of the runs. A training has cells that a search found."""
    found = {index: run.genotype for index, run in enumerate(runs) if run.genotype is not None}
    searched = {index: genotype for index, genotype in found.items() if runs[index].kind == "search"}
    return searched or found


def kinds_of(runs: Sequence[RunData]) -> list[str]:
    """The kinds of cells that at least two runs have."""
    counts = Counter(kind for genotype in finders(runs).values() for kind in cell_kinds_of(genotype))
    return [kind for kind, count in counts.items() if count > 1]


def _cells(runs: Sequence[RunData], kind: str) -> dict[int, list[tuple[tuple[int, int], str]]]:
    """The edges and operations of the runs that have this kind of cell, by the indices of the runs."""
    return {
        index: chosen_edges(genotype, kind)
        for index, genotype in finders(runs).items()
        if kind in cell_kinds_of(genotype)
    }


def _telling(names: Sequence[str], keys: Sequence[tuple[str, ...]]) -> list[str]:
    """As few settings as tell the groups apart, the first ones first."""
    chosen: list[int] = []
    for index in range(len(names)):
        before = {tuple(key[place] for place in chosen) for key in keys}
        after = {tuple(key[place] for place in [*chosen, index]) for key in keys}
        if len(after) > len(before):
            chosen.append(index)
        if len(after) == len(keys):
            break
    return [names[index] for index in chosen]


def _words(name: str, value: str) -> str:
    return value if name == "kind" else f"{name} {_short(value)}"


def _key(value: Any) -> str:
    return "–" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
