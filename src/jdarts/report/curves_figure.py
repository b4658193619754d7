"""The numbers of a run as panels of curves over its steps."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from jdarts.errors import InputError

COLUMNS = 2
#: Okabe and Ito's colours by the name of a curve; others follow in order.
COLOURS = {"train": "#0072B2", "valid": "#D55E00"}
OTHER_COLOURS = ("#009E73", "#8A4F7D", "#444444", "#E69F00")
#: A curve of fewer points shows them.
MARKED = 60

Curve = tuple[list[int], list[float]]


def curves_figure(records: Sequence[Mapping[str, Any]]) -> Figure:
    """One panel for each quantity of the records, two in a row.

    Raises:
      InputError: the records hold no numbers.
    """
    panels = _panels(records)
    if not panels:
        raise InputError("no curves to draw: the records hold no numbers")
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4.6 * columns, 2.9 * rows), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for axes, (quantity, curves) in zip(grid.flat, panels.items()):
        _draw(axes, quantity, curves)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_axis_off()
    for i, axes in enumerate(grid.flat):
        if len(panels) - columns <= i < len(panels):
            axes.set_xlabel("step")
            axes.tick_params(labelbottom=True)
    return figure


def _panels(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Curve]]:
    """Curves by quantity and name, in the order in which they first appear."""
    panels: dict[str, dict[str, Curve]] = {}
    for record in records:
        for key, value in record.items():
            if key not in ("step", "time"):
                name, _, quantity = key.rpartition("/")
                steps, numbers = panels.setdefault(quantity, {}).setdefault(name, ([], []))
                steps.append(record["step"])
                numbers.append(value if math.isfinite(value) else math.nan)
    return panels


def _draw(axes: Axes, quantity: str, curves: Mapping[str, Curve]) -> None:
    others = iter(OTHER_COLOURS * len(curves))
    for name, (steps, numbers) in curves.items():
        colour = COLOURS.get(name) or next(others)
        marker = "o" if len(steps) < MARKED else None
        axes.plot(steps, numbers, color=colour, linewidth=1.3, marker=marker, markersize=3, label=name)
    title = f"{next(iter(curves))} {quantity}".strip() if len(curves) == 1 else quantity
    axes.set_title(title.replace("_", " "), size=10, weight="bold", loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    if quantity.endswith("accuracy"):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=8)
