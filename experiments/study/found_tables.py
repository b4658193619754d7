"""Tables and figures of study 4, from its results alone."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jdarts.report.formatting import markdown_table

from .results import Results
from .statistics import Interval, mean_and_spread, unpaired_interval
from .study import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOUND, RANDOM, PUBLISHED = "found", "random", "DARTS_V2"
_KINDS = {FOUND: "found, each by one search", RANDOM: "random, of a found cell's size", PUBLISHED: "DARTS_V2"}


def tables(results: Results) -> dict[str, str]:
    """The tables, by name."""
    return {"cells": _cells_table(results), "comparison": _comparison_table(results)}


def figures(results: Results) -> dict[str, Callable[[], "Figure"]]:
    """The figures, by name."""
    return {"accuracies": lambda: _accuracies_figure(results)}


def accuracies(rows: Sequence[Row]) -> list[float]:
    """Test accuracies in percent."""
    return [100 * row["test"] for row in rows]


def selected(results: Results) -> Row | None:
    """The found cell with the best accuracy on held-out images after its brief training; None before there is one."""
    found = results.where(cell=FOUND)
    return max(found, key=lambda row: row["brief"]) if found else None


def _cells_table(results: Results) -> str:
    head = ["cells", "number", "weights", "test accuracy, %"]
    lines = []
    for kind, words in _KINDS.items():
        rows = results.where(cell=kind)
        if not rows:
            continue
        sizes = [row["weights"] for row in rows]
        size = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
        lines.append([words, str(len(rows)), size, mean_and_spread(accuracies(rows), 1)])
    if (chosen := selected(results)) is not None:
        words = f"the found one that the brief trainings select (search {chosen['number']})"
        lines.append([words, "1", f"{chosen['weights']:,}", f"{100 * chosen['test']:.1f}"])
    return markdown_table(head, lines)


def comparison(difference: Interval) -> str:
    """What an interval of a difference says, in words."""
    if np.isnan(difference.low):
        return "not compared"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "not shown to be better or worse"


def _comparison_table(results: Results) -> str:
    head = ["found cells against", "difference of mean test accuracies, points [95 %]", "found cells are"]
    found, lines = accuracies(results.where(cell=FOUND)), []
    for kind in (RANDOM, PUBLISHED):
        others = accuracies(results.where(cell=kind))
        if found and others:
            difference = unpaired_interval(found, others)
            lines.append([_KINDS[kind], difference.text(), comparison(difference)])
    chosen, random = selected(results), accuracies(results.where(cell=RANDOM))
    if chosen is not None and random:
        below = sum(each < 100 * chosen["test"] for each in random)
        lines.append(["the selected cell alone, against random ones", "", f"better than {below} of {len(random)}"])
    return markdown_table(head, lines) if lines else "Nothing can be compared yet."


def _accuracies_figure(results: Results) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 2.6), layout="constrained")
    axes = figure.subplots()
    for place, (kind, colour) in enumerate(zip(_KINDS, ("#0072B2", "#444444", "#D55E00"), strict=True)):
        rows = results.where(cell=kind)
        axes.plot(accuracies(rows), [place] * len(rows), "o", color=colour, alpha=0.7)
        if rows:
            axes.plot(float(np.mean(accuracies(rows))), place, "|", color=colour, markersize=24)
    axes.set_yticks(range(len(_KINDS)), list(_KINDS.values()))
    axes.set_ylim(len(_KINDS) - 0.5, -0.5)
    axes.set_xlabel("test accuracy, %")
    return figure
