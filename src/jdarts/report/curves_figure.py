"""Curves of a run over its steps, in at most six panels: losses and accuracies first."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from jdarts.errors import InputError

COLUMNS = 2
MAX_PANELS = 6
#: Okabe and Ito's colours by the name of a curve; other curves use `OTHER_COLOURS` in order.
COLOURS = {"train": "#0072B2", "valid": "#D55E00", "evaluation": "#009E73"}
OTHER_COLOURS = ("#009E73", "#8A4F7D", "#444444", "#E69F00")
#: A curve with fewer points has markers.
MARKER_POINTS = 60
#: Opacity of the numbers of single steps behind the means of epochs.
STEP_OPACITY = 0.3

ENTROPY, HYPERGRADIENT = "alphas entropy", "hypergradient norm"
#: Order of the panels; others follow in the order of their first record.
ORDER = (
    "loss",
    "accuracy",
    "perplexity",
    ENTROPY,
    HYPERGRADIENT,
    "weights gradient_norm",
    "learning_rate",
    "drop_path",
)
#: Keys without a curve: checks of finiteness, and the number of the epoch.
_NO_CURVES = re.compile(r"(.*/)?(\w*finite|number)")
_EPOCH_MEANS = re.compile(r"epoch/(train|valid|evaluation)_(\w+)")
_ENTROPY = re.compile(r"alphas/entropy(?:_(\w+))?")
_HYPERGRADIENT = re.compile(r"hypergradient/(?:(\w+)_)?norm")

Points = tuple[list[int], list[float]]


@dataclasses.dataclass
class Curve:
    """One curve.

    Attributes:
      single: steps and numbers of single steps.
      means: steps at the ends of epochs and means over the epochs.
    """

    single: Points = dataclasses.field(default_factory=lambda: ([], []))
    means: Points = dataclasses.field(default_factory=lambda: ([], []))


def curves_figure(records: Sequence[Mapping[str, Any]]) -> Figure:
    """A panel for each quantity of the records, two in a row.

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
    """Curves by quantity and name."""
    panels: dict[str, dict[str, Curve]] = {}
    for record in records:
        for key, value in record.items():
            if key in ("step", "time") or _NO_CURVES.fullmatch(key):
                continue
            quantity, name, is_mean = _panel_of(key)
            curve = panels.setdefault(quantity, {}).setdefault(name, Curve())
            steps, numbers = curve.means if is_mean else curve.single
            steps.append(record["step"])
            numbers.append(value if math.isfinite(value) else math.nan)
    entropies = panels.get(ENTROPY, {})
    if len(entropies) > 1:
        # With a curve for each cell, their mean is redundant.
        entropies.pop("", None)
    ranked = sorted(panels, key=lambda quantity: ORDER.index(quantity) if quantity in ORDER else len(ORDER))
    return {quantity: panels[quantity] for quantity in ranked[:MAX_PANELS]}


def _panel_of(key: str) -> tuple[str, str, bool]:
    """The panel and the curve of a key, and whether its numbers are means of epochs."""
    if match := _EPOCH_MEANS.fullmatch(key):
        return match[2], match[1], True
    if match := _ENTROPY.fullmatch(key):
        return ENTROPY, match[1] or "", False
    if match := _HYPERGRADIENT.fullmatch(key):
        return HYPERGRADIENT, match[1] or "", False
    name, _, quantity = key.rpartition("/")
    return (quantity, name, False) if name in COLOURS else (f"{name} {quantity}".strip(), "", False)


def _draw(axes: Axes, quantity: str, curves: Mapping[str, Curve]) -> None:
    others = iter(OTHER_COLOURS * len(curves))
    for name, curve in curves.items():
        colour = COLOURS.get(name) or next(others)
        label = name or "sum"
        parts = [points for points in (curve.single, curve.means) if points[0]]
        for behind in parts[:-1]:
            _plot(axes, behind, colour, "_behind the means", alpha=STEP_OPACITY)
        _plot(axes, parts[-1], colour, label)
    (name, *more) = curves
    axes.set_title(
        (quantity if more else f"{name} {quantity}".strip()).replace("_", " "), size=10, weight="bold", loc="left"
    )
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    if quantity == ENTROPY:
        # The axis starts at 0, so that a decrease in the sixth digit is invisible.
        axes.set_ylim(0, 1.05 * max(axes.get_ylim()[1], 1e-6))
    if quantity == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    has_pale = any(curve.single[0] and curve.means[0] for curve in curves.values())
    if more or has_pale:
        axes.legend(frameon=False, fontsize=8, title="pale: single steps" if has_pale else None, title_fontsize=8)


def _plot(axes: Axes, points: Points, colour: str, label: str, *, alpha: float = 1.0) -> None:
    marker = "o" if len(points[0]) < MARKER_POINTS else None
    axes.plot(*points, color=colour, alpha=alpha, linewidth=1.3, marker=marker, markersize=3, label=label)
