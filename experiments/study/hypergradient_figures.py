"""Tables and figures of study 1, from its results alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jdarts.report.formatting import markdown_table

from .results import COLOURS, Results
from .statistics import Interval, correlation, mean_interval, relative_error, slope
from .study import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Statistic = Callable[[np.ndarray, np.ndarray], float]

_NAMES = {"darts": "DARTS cells", "choice": "small network, ReLU", "choice_smooth": "small network, SiLU (smooth)"}
#: The change on the batches that the estimators see.
SAME = "same"


def tables(results: Results) -> dict[str, str]:
    """The tables, by name."""
    return {
        "estimators": _estimators_table(results),
        "moments": _moments_table(results),
        "others": _others_table(results),
        "steps": _steps_table(results),
        "lengths": _lengths_table(results),
    }


def figures(results: Results) -> dict[str, Callable[[], "Figure"]]:
    """The figures, by name."""
    return {"estimators": lambda: _estimators_figure(results), "lengths": lambda: _lengths_figure(results)}


def predicted_and_real(row: Row, estimator: str, change: str) -> tuple[np.ndarray, np.ndarray]:
    """What an estimator predicts along the random directions of a change, and what happened."""
    real = np.array(row["changes"][change]["odd"])
    return np.array(row["predicted"][estimator][: len(real)]), real


def at_length(row: Row, estimator: str, length: float, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The same for steps of a length, with weights that are `fixed` or `trained`."""
    (found,) = (each for each in row["lengths"] if each["length"] == length)
    real = np.array(found[kind]["odd"])
    return length * np.array(row["predicted"][estimator][: len(real)]), real


def over_seeds(rows: Sequence[Row], of_row: Callable[[Row], float]) -> Interval:
    """A number of each row: the mean over the moments of a search, and the interval over the seeds."""
    if not rows:
        return Interval(float("nan"), float("nan"), float("nan"))
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], []).append(of_row(row))
    return mean_interval([float(np.nanmean(each)) for each in by_seed.values()])


def foresight(rows: Sequence[Row], estimator: str, change: str, statistic: Statistic) -> Interval:
    """A statistic of predicted and real changes along random directions."""
    return over_seeds(rows, lambda row: statistic(*predicted_and_real(row, estimator, change)))


def main_rows(results: Results) -> list[Row]:
    """The rows of the first network at the moments at which all is measured."""
    return [row for row in results.rows if "changes" in row]


def change_words(change: str) -> str:
    """A change in words."""
    kind, _, number = change.partition(", ")
    if kind == "same":
        return "same batches"
    return "other batches" if kind == "other" else f"next {number} step{'s' * (number != '1')}"


def later_rows(results: Results) -> list[Row]:
    """Those of the main rows that come after the start of the search; all if there are none."""
    rows = main_rows(results)
    return [row for row in rows if row["moment"] > 0] or rows


def _estimators_table(results: Results) -> str:
    """The estimators on the batches that they see, after the start of the search."""
    rows = later_rows(results)
    head = [
        "estimator",
        "time, × first order",
        "correlation",
        "correlation less that of exact",
        "slope",
        "relative error",
    ]
    lines = []
    for name in rows[0]["seconds"]:
        cost = over_seeds(rows, lambda row, name=name: row["seconds"][name] / row["seconds"]["first order"])
        less = over_seeds(
            rows,
            lambda row, name=name: (
                correlation(*predicted_and_real(row, name, SAME)) - correlation(*predicted_and_real(row, "exact", SAME))
            ),
        )
        found = [foresight(rows, name, SAME, each) for each in (correlation, slope, relative_error)]
        texts = [each.text() for each in found]
        lines.append([name, f"{cost.mean:.1f}", texts[0], "" if name == "exact" else less.text(3), *texts[1:]])
    return markdown_table(head, lines)


def _others_table(results: Results) -> str:
    """The correlations where the estimators have not seen the batches, after the start of the search."""
    rows = later_rows(results)
    changes = [change for change in rows[0]["changes"] if change != SAME]
    head = ["correlation", *(change_words(change) for change in changes)]
    lines = [
        [name, *(foresight(rows, name, change, correlation).text() for change in changes)]
        for name in rows[0]["seconds"]
    ]
    return markdown_table(head, lines)


def _moments_table(results: Results) -> str:
    rows = main_rows(results)
    moments = sorted({row["moment"] for row in rows})
    head = ["correlation, same batches", *(f"after {moment:.0%} of the search" for moment in moments)]
    lines = []
    for name in rows[0]["seconds"]:
        found = [
            foresight([row for row in rows if row["moment"] == moment], name, SAME, correlation) for moment in moments
        ]
        lines.append([name, *(each.text() for each in found)])
    return markdown_table(head, lines)


def _steps_table(results: Results) -> str:
    """What happens to the validation loss with each estimator's own step, after the start of the search."""
    rows = later_rows(results)
    changes = rows[0]["changes"]
    names = [name for name in rows[0]["seconds"] if all(name in each["own"] for each in changes.values())]
    head = ["own step of", *(f"loss × 10⁴, {change_words(change)}" for change in changes)]
    lines = []
    for name in names:
        found = [
            over_seeds(rows, lambda row, change=change, name=name: 1e4 * sum(row["changes"][change]["own"][name]))
            for change in changes
        ]
        lines.append([name, *(each.text(1) for each in found)])
    return markdown_table(head, lines)


def _by_network(results: Results) -> Iterator[tuple[str, list[Row], list[float]]]:
    """The networks, their rows with steps of several lengths, and the lengths."""
    for network in results.values("network"):
        rows = [row for row in results.where(network=network) if "lengths" in row]
        if rows:
            yield network, rows, [each["length"] for each in rows[0]["lengths"]]


def _at_length(rows: Sequence[Row], estimator: str, length: float, kind: str, statistic: Statistic) -> Interval:
    return over_seeds(rows, lambda row: statistic(*at_length(row, estimator, length, kind)))


def _lengths_table(results: Results) -> str:
    moments = sorted({row["moment"] for row in results.rows if "lengths" in row})
    head = ["network", "length, × Adam's step"]
    for moment in moments:
        head += [f"{word} after {moment:.0%}" for word in ("correlation", "slope", "curvature")]
    head.append("first order, weights fixed: correlation")
    lines = []
    for network, rows, lengths in _by_network(results):
        for length in lengths:
            found = []
            for moment in moments:
                there = [row for row in rows if row["moment"] == moment]
                found += [_at_length(there, "exact", length, "trained", each) for each in (correlation, slope)]
                found.append(over_seeds(there, lambda row, length=length: _even_share(row, length)))
            found.append(_at_length(rows, "first order", length, "fixed", correlation))
            lines.append([_NAMES[network], f"{length:g}", *(each.text() for each in found)])
    return markdown_table(head, lines)


def _even_share(row: Row, length: float) -> float:
    """The size of what is alike on both sides, against that of what a gradient can predict."""
    (found,) = (each["trained"] for each in row["lengths"] if each["length"] == length)
    return float(np.linalg.norm(found["even"]) / np.linalg.norm(found["odd"]))


def _estimators_figure(results: Results) -> "Figure":
    from matplotlib.figure import Figure

    rows = later_rows(results)
    names, changes = list(rows[0]["seconds"]), rows[0]["changes"]
    figure = Figure(figsize=(8.4, 0.42 * len(names) + 1.6), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / len(changes)
    for place, (change, colour) in enumerate(zip(changes, COLOURS)):
        found = [foresight(rows, name, change, correlation) for name in names]
        heights = np.arange(len(names)) + (place - (len(changes) - 1) / 2) * height
        given = {"xerr": _ends(found), "color": colour, "label": change_words(change), "markersize": 4, "elinewidth": 1}
        axes.errorbar([each.mean for each in found], heights, fmt="o", **given)
    axes.set_yticks(np.arange(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_xlim(-1.05, 1.05)
    axes.set_xlabel("correlation of predicted and real change of the validation loss, after the start of the search")
    figure.legend(fontsize=8, loc="outside upper center", ncols=len(changes), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _lengths_figure(results: Results) -> "Figure":
    from matplotlib.figure import Figure

    moments = sorted({row["moment"] for row in results.rows if "lengths" in row})
    figure = Figure(figsize=(4.2 * len(moments), 3.4), facecolor="white", layout="constrained")
    for place, moment in enumerate(moments):
        axes = figure.add_subplot(1, len(moments), place + 1)
        for (network, rows, lengths), colour in zip(_by_network(results), COLOURS):
            there = [row for row in rows if row["moment"] == moment]
            if not there:
                continue
            found = [_at_length(there, "exact", length, "trained", correlation) for length in lengths]
            given = {"yerr": _ends(found), "color": colour, "label": _NAMES[network], "markersize": 4, "linewidth": 1}
            axes.errorbar(lengths, [each.mean for each in found], fmt="o-", **given)
        axes.axhline(1, color="#888888", linewidth=0.8, linestyle="--")
        axes.set_xscale("log")
        axes.set_ylim(-1.1, 1.1)
        axes.set_xlabel("length of the step, × that of Adam")
        axes.set_title(f"after {moment:.0%} of the search", fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("correlation of the exact hypergradient")
    figure.axes[0].legend(fontsize=8, loc="lower left")
    return figure


def _ends(found: Sequence[Interval]) -> np.ndarray:
    """Lengths of the bars on both sides of the means, `[2, N]`; 0 where there is no interval."""
    return np.nan_to_num([[each.mean - each.low for each in found], [each.high - each.mean for each in found]])
