"""Tables and figures of study 1, from its results alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jdarts.report.formatting import markdown_table

from .results import Results
from .statistics import Interval, correlation, mean_interval, relative_error, slope

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
Statistic = Callable[[np.ndarray, np.ndarray], float]

_NAMES = {"darts": "DARTS cells", "choice": "small network, ReLU", "choice_smooth": "small network, SiLU (smooth)"}
#: Okabe and Ito's colours.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#8A4F7D", "#E69F00", "#444444")
#: The step of Adam on the batches of the estimators.
SAME = "same, 1"


def tables(results: Results) -> dict[str, str]:
    """The tables, by name."""
    return {
        "estimators": _estimators_table(results),
        "moments": _moments_table(results),
        "lengths": _lengths_table(results),
        "steps": _steps_table(results),
    }


def figures(results: Results) -> dict[str, Callable[[], "Figure"]]:
    """The figures, by name."""
    return {"estimators": lambda: _estimators_figure(results), "lengths": lambda: _lengths_figure(results)}


def predicted_and_real(row: Row, estimator: str, change: str) -> tuple[np.ndarray, np.ndarray]:
    """What an estimator predicts along the random directions of a change, and what happened."""
    real = np.array(row["changes"][change]["odd"])
    scale = float(change.partition(", ")[2]) if change.startswith("same") else 1.0
    return scale * np.array(row["predicted"][estimator]["random"][: len(real)]), real


def over_seeds(results: Results, network: str, of_row: Callable[[Row], float], **entries: Any) -> Interval:
    """A number of each row: the mean over the moments of a search, and the interval over the seeds."""
    by_seed: dict[int, list[float]] = {}
    for row in results.where(network=network, **entries):
        by_seed.setdefault(row["seed"], []).append(of_row(row))
    return mean_interval([float(np.nanmean(each)) for each in by_seed.values()])


def foresight(
    results: Results, network: str, estimator: str, change: str, statistic: Statistic, **entries: Any
) -> Interval:
    """A statistic of predicted and real changes along random directions."""
    return over_seeds(results, network, lambda row: statistic(*predicted_and_real(row, estimator, change)), **entries)


def _estimator_names(results: Results) -> list[str]:
    return [name for name in results.rows[0]["predicted"] if name in results.rows[0]["seconds"]]


def _changes(results: Results) -> list[str]:
    """The changes at the length of Adam's step."""
    return [name for name in results.rows[0]["changes"] if not name.startswith("same") or name == SAME]


def change_words(change: str) -> str:
    """A change in words."""
    kind, _, number = change.partition(", ")
    if kind == "same":
        return "same batches"
    return "other batches" if kind == "other" else f"next {number} step{'s' * (number != '1')}"


def _main_network(results: Results) -> str:
    return results.rows[0]["network"]


def _cost(results: Results, network: str, estimator: str) -> Interval:
    return over_seeds(results, network, lambda row: row["seconds"][estimator] / row["seconds"]["first order"])


def _estimators_table(results: Results) -> str:
    network, changes = _main_network(results), _changes(results)
    head = ["estimator", "time, × first order"]
    head += [f"correlation, {change_words(change)}" for change in changes]
    head += ["slope, same batches", "relative error, same batches"]
    lines = []
    for name in _estimator_names(results):
        correlations = [foresight(results, network, name, change, correlation).text() for change in changes]
        others = [foresight(results, network, name, SAME, each).text() for each in (slope, relative_error)]
        lines.append([name, f"{_cost(results, network, name).mean:.1f}", *correlations, *others])
    return markdown_table(head, lines)


def _moments_table(results: Results) -> str:
    network = _main_network(results)
    moments = sorted({row["moment"] for row in results.where(network=network)})
    head = ["correlation, same batches", *(f"after {moment:.0%} of the search" for moment in moments)]
    lines = [
        [name, *(foresight(results, network, name, SAME, correlation, moment=each).text() for each in moments)]
        for name in _estimator_names(results)
    ]
    return markdown_table(head, lines)


def _lengths_table(results: Results) -> str:
    head = ["network", "length, × Adam's step", "correlation of exact", "slope of exact", "curvature / slope"]
    lines = []
    for network in results.values("network"):
        for change in _lengths(results):
            numbers = [
                foresight(results, network, "exact, float64", change, each).text() for each in (correlation, slope)
            ]
            even = over_seeds(results, network, lambda row, change=change: _even_share(row["changes"][change]))
            lines.append([_NAMES[network], change.partition(", ")[2], *numbers, even.text()])
    return markdown_table(head, lines)


def _lengths(results: Results) -> list[str]:
    return [name for name in results.rows[0]["changes"] if name.startswith("same")]


def _even_share(changes: Mapping[str, Any]) -> float:
    """The size of what is alike on both sides, against that of what a gradient can predict."""
    return float(np.linalg.norm(changes["even"]) / np.linalg.norm(changes["odd"]))


def _steps_table(results: Results) -> str:
    """What happens to the validation loss with each estimator's own step."""
    network, changes = _main_network(results), _changes(results)
    names = [
        name
        for name in _estimator_names(results)
        if all(name in results.rows[0]["changes"][each]["own"] for each in changes)
    ]
    head = ["own step of", *(f"loss × 10⁴, {change_words(change)}" for change in changes)]
    lines = []
    for name in names:
        found = [
            over_seeds(results, network, lambda row, each=each, name=name: 1e4 * sum(row["changes"][each]["own"][name]))
            for each in changes
        ]
        lines.append([name, *(each.text(1) for each in found)])
    return markdown_table(head, lines)


def _estimators_figure(results: Results) -> "Figure":
    from matplotlib.figure import Figure

    network, names = _main_network(results), _estimator_names(results)
    changes = _changes(results)
    figure = Figure(figsize=(8.4, 0.34 * len(names) + 1.6), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / len(changes)
    for place, (change, colour) in enumerate(zip(changes, _COLOURS)):
        found = [foresight(results, network, name, change, correlation) for name in names]
        rows = np.arange(len(names)) + (place - (len(changes) - 1) / 2) * height
        _with_intervals(axes, [each.mean for each in found], rows, found, colour, change_words(change), vertical=False)
    axes.set_yticks(np.arange(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_xlabel("correlation of predicted and real change of the validation loss, random directions")
    axes.legend(fontsize=8, loc="lower left", framealpha=1)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _lengths_figure(results: Results) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.4), facecolor="white", layout="constrained")
    for place, (statistic, words) in enumerate(((correlation, "correlation"), (slope, "slope"))):
        axes = figure.add_subplot(1, 2, place + 1)
        for network, colour in zip(results.values("network"), _COLOURS):
            changes = _lengths(results)
            scales = [float(change.partition(", ")[2]) for change in changes]
            found = [foresight(results, network, "exact, float64", change, statistic) for change in changes]
            _with_intervals(axes, scales, [each.mean for each in found], found, colour, _NAMES[network], vertical=True)
            axes.plot(scales, [each.mean for each in found], color=colour, linewidth=1)
        axes.axhline(1, color="#888888", linewidth=0.8, linestyle="--")
        axes.set_xscale("log")
        axes.set_xlabel("length of the step, × that of Adam")
        axes.set_ylabel(f"{words} of the exact hypergradient")
        axes.spines[["top", "right"]].set_visible(False)
    axes = figure.axes[0]
    axes.legend(fontsize=8, loc="lower left")
    return figure


def _with_intervals(
    axes: Any,
    across: Sequence[float],
    up: Sequence[float] | np.ndarray,
    found: Sequence[Interval],
    colour: str,
    label: str,
    *,
    vertical: bool,
) -> None:
    """Points with their intervals."""
    ends = np.array([[each.mean - each.low, each.high - each.mean] for each in found]).T
    ends = np.nan_to_num(ends)
    given: dict[str, Any] = {"yerr": ends} if vertical else {"xerr": ends}
    axes.errorbar(across, up, fmt="o", markersize=4, color=colour, label=label, elinewidth=1, **given)
