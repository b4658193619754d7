"""The section of a pipeline's page that shows accuracy against size, from the pipeline's summary."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jdarts.files.json_data import Fields
from jdarts.report.budgets_figure import ARMS
from jdarts.report.drawing import budgets_svg
from jdarts.report.html import markup
from jdarts.report.html.comparison import mean_and_spread
from jdarts.report.html.markup import Cell

_HEADER = (
    "budget",
    "cells",
    "weights of the chosen",
    "test accuracy",
    "trainings",
    "number of cells",
    "smallest",
    "largest",
    "validation accuracy of all",
)
_NOTE = (
    "Cells are chosen by the validation accuracy of brief trainings, and trained in full; ± is the standard deviation (with "
    "n − 1), of the test over full trainings, of the validation over cells. The random cells are drawn uniformly from all cells "
    "that keep the bound and have the weights of one of the searched cells up to 5 %."
)


def budgets_html(summary: Mapping[str, Any]) -> str:
    """The section of a pipeline with budgets that has ended; empty for any other summary."""
    try:
        results = _read(summary)
    except ValueError:
        return ""
    if not results:
        return ""
    picture = f'<div class="card">{budgets_svg(results)}</div>'
    rows = [_row(result, name) for result in results for name in ARMS]
    return f"{picture}{markup.paragraph(_NOTE, 'note')}{markup.sorted_table(_HEADER, rows)}"


def _read(summary: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The results within budgets, checked; none for a pipeline without budgets.

    Raises:
      ValueError: they are damaged.
    """
    fields = Fields(summary)
    if not fields.has("budgets"):
        return []
    for result in fields.objects("budgets"):
        result.optional(result.count, "max_weights")
        for name in ARMS:
            arm = Fields(result.get(name))
            arm.number("mean")
            arm.optional(arm.number, "std")
            arm.listed("test_accuracies")
            candidates = arm.objects("candidates")
            if arm.count("chosen") >= len(candidates):
                raise ValueError("candidates has no chosen one")
            for each in candidates:
                each.count("size")
                if not math.isfinite(each.number("valid_accuracy")):
                    raise ValueError("valid_accuracy is not finite")
    return fields.listed("budgets")


def _row(result: Mapping[str, Any], name: str) -> list[Cell]:
    arm, bound = result[name], result["max_weights"]
    sizes = [each["size"] for each in arm["candidates"]]
    chosen = sizes[arm["chosen"]]
    mean, spread = mean_and_spread([each["valid_accuracy"] for each in arm["candidates"]])
    return [
        Cell("none", 1e300) if bound is None else Cell(f"{bound:,}", float(bound)),
        Cell(ARMS[name][2]),
        Cell(f"{chosen:,}", float(chosen)),
        _accuracy(arm["mean"], arm["std"]),
        Cell(str(len(arm["test_accuracies"])), float(len(arm["test_accuracies"]))),
        Cell(str(len(sizes)), float(len(sizes))),
        Cell(f"{min(sizes):,}", float(min(sizes))),
        Cell(f"{max(sizes):,}", float(max(sizes))),
        _accuracy(mean, spread),
    ]


def _accuracy(mean: float, spread: float | None) -> Cell:
    around = "" if spread is None else f" ± {100 * spread:.2f}"
    return Cell(f"{100 * mean:.2f}{around} %", mean)
