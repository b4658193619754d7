"""The section of a page on the choices of a network of the user's own: what is chosen, and the weights of the candidates."""

from collections.abc import Iterator, Mapping, Sequence

from jdarts.methods.mixture_record import MixtureRecord
from jdarts.report.html import markup
from jdarts.report.html.run_data import RunData
from jdarts.report.html.series import Panel, Series

#: More choices have no charts, only rows of the table.
_MOST_CHARTS = 24


def choice_table(run: RunData) -> str:
    """What is chosen, and the weights of the candidates after the last epoch; empty where no epoch has ended."""
    mixtures = [each.mixture for each in run.epochs if each.mixture is not None]
    chosen = run.summary.get("choices", run.record.get("choices"))
    if not mixtures or not isinstance(chosen, Mapping):
        return ""
    last, rows = mixtures[-1], []
    for name, tables in sorted(last.operations.items()):
        weights = last.weights[name].mean(axis=0)
        listed = ", ".join(f"{candidate} {weight:.3f}" for candidate, weight in zip(tables[0], weights))
        rows.append((name, _words(chosen.get(name)), listed))
    return markup.table(rows, ("choice", "chosen", "weights of the candidates"))


def choice_panels(run: RunData) -> list[Panel]:
    """The weights of each choice's candidates over the epochs, a panel for each choice."""
    mixtures = [(each.number, each.mixture) for each in run.epochs if each.mixture is not None]
    if not mixtures:
        return []
    panels = []
    _, first = mixtures[0]
    for name, row, candidates in _rows(first):
        points: dict[str, list[tuple[float, float]]] = {candidate: [] for candidate in candidates}
        for number, mixture in mixtures:
            table = mixture.weights.get(name)
            if table is not None and table.shape[1:] == (len(candidates),) and row < len(table):
                for candidate, weight in zip(candidates, table[row]):
                    points[candidate].append((number, float(weight)))
        series = tuple(Series(candidate, listed) for candidate, listed in points.items())
        panels.append(Panel(name if row == 0 else f"{name}, layer {row}", "", series, "from zero"))
    return panels[:_MOST_CHARTS]


def _rows(mixture: MixtureRecord) -> Iterator[tuple[str, int, Sequence[str]]]:
    for name, tables in sorted(mixture.operations.items()):
        for row, candidates in enumerate(tables):
            yield name, row, candidates


def _words(chosen: object) -> str:
    if isinstance(chosen, list | tuple):
        return ", ".join(map(_words, chosen))
    return str(chosen) if chosen is not None else "–"
