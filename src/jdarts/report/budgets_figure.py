"""Accuracy against size, of the cells that a pipeline has found within its budgets and of random cells beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

#: Okabe and Ito's colours and the marker of each arm.
ARMS = {"search": ("#0072B2", "o", "searched cells"), "random": ("#D55E00", "s", "random cells of the same sizes")}


def budgets_figure(results: Sequence[Mapping[str, Any]]) -> Figure:
    """Two panels over the number of weights: tests of the chosen cells, and validation of all candidates.

    Args:
      results: the list `budgets` of a pipeline's summary.
    """
    figure = Figure(figsize=(9.2, 3.6), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
    tests, candidates = figure.subplots(1, 2)
    for name, (colour, marker, label) in ARMS.items():
        arms = [each[name] for each in results]
        chosen = [arm["candidates"][arm["chosen"]]["size"] for arm in arms]
        tests.errorbar(
            chosen,
            [arm["mean"] for arm in arms],
            yerr=[arm["std"] or 0.0 for arm in arms],
            color=colour,
            marker=marker,
            markersize=5,
            linewidth=1.3,
            capsize=3,
            label=label,
        )
        each = [candidate for arm in arms for candidate in arm["candidates"]]
        candidates.scatter(
            [candidate["size"] for candidate in each],
            [candidate["valid_accuracy"] for candidate in each],
            color=colour,
            marker=marker,
            s=16,
            alpha=0.7,
            zorder=3 if name == "search" else 2,
            linewidths=0,
        )
    bounds = [each["max_weights"] for each in results if each["max_weights"] is not None]
    _finish(tests, bounds, "test accuracy of the chosen cells, full trainings")
    _finish(candidates, bounds, "validation accuracy of all cells, brief trainings")
    handles, labels = tests.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def _finish(axes: Axes, bounds: Sequence[int], title: str) -> None:
    for bound in bounds:
        axes.axvline(bound, color="#888888", linewidth=0.8, linestyle=":", zorder=0)
    axes.set_title(title, size=10, weight="bold", loc="left")
    axes.set_xlabel("weights of the network (dotted: the bounds)", size=9)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
