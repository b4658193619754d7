"""Tables and figures of study 3, from its results alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jdarts.methods.stopping import EIGENVALUE, Epoch, eigenvalue
from jdarts.report.formatting import markdown_table

from .cell_guards import stopped_by
from .results import COLOURS, Results
from .statistics import bootstrap_interval, kendall_tau, mean_and_spread
from .study import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Skip connections of the normal cell, of eight operations, from which on the guard of skips stops a search. Where every edge has
#: two operations, a random cell has four.
SKIP_LIMIT = 6
#: DARTS's weight decay, that of a row without one.
PRESET_DECAY = 3e-4


def tables(results: Results) -> dict[str, str]:
    """The tables, by name."""
    return {
        "searches": _searches_table(results),
        "decay": _decay_table(results),
        "guards": _guards_table(results),
    }


def figures(results: Results) -> dict[str, Callable[[], "Figure"]]:
    """The figures, by name: a column for each space, skips above and eigenvalues below."""
    return {"epochs": lambda: _epochs_figure(results)}


def kinds(results: Results) -> list[tuple[str, str, float | None]]:
    """Space, method and weight decay of the searches, in the order of the rows."""
    return list(dict.fromkeys((row["space"], row["method"], row["weight_decay"]) for row in results.rows))


def words_of(method: str, decay: float | None) -> str:
    """A method, with its weight decay where that is not the preset's."""
    return method if decay is None else f"{method}, weight decay {decay:g}"


def _rows(results: Results, space: str, method: str, decay: float | None) -> list[Row]:
    return results.where(space=space, method=method, weight_decay=decay)


def _at_end(rows: Iterable[Row], name: str) -> list[float]:
    return [row[name][-1] for row in rows]


def _searches_table(results: Results) -> str:
    head = ["space", "search", "skips at the end", "median lead, %", "eigenvalue, first epoch", "largest", "last"]
    head += ["accuracy of the supernet, %", "epochs"]
    lines = []
    for space, method, decay in kinds(results):
        rows = _rows(results, space, method, decay)
        lines.append(
            [
                space.upper(),
                words_of(method, decay),
                ", ".join(f"{skips:.0f}" for skips in _at_end(rows, "skips")),
                mean_and_spread([100 * lead for lead in _at_end(rows, "lead")], 0),
                mean_and_spread([row["eigenvalue"][0] for row in rows], 3),
                mean_and_spread([max(row["eigenvalue"]) for row in rows], 3),
                mean_and_spread(_at_end(rows, "eigenvalue"), 3),
                mean_and_spread([100 * each for each in _at_end(rows, "accuracy")], 1),
                ", ".join(str(len(row["skips"])) for row in rows),
            ]
        )
    return markdown_table(head, lines)


def decay_trend(groups: Sequence[Sequence[tuple[float, float]]]) -> float:
    """Kendall's τ of weight decays and numbers, of all pairs of the groups together."""
    pairs = [pair for group in groups for pair in group]
    return kendall_tau([decay for decay, _ in pairs], [number for _, number in pairs])


def _decay_table(results: Results) -> str:
    """The published trend: skips and eigenvalues fall with the weight decay, up to 243e-4."""
    head = ["space", "rows", "τ of skips and weight decay", "τ of eigenvalues and weight decay", "published trend"]
    lines = []
    for space in results.values("space"):
        rows = [row for row in results.where(space=space, method="darts")]
        if len({row["weight_decay"] for row in rows}) < 2:
            continue
        by_seed: dict[str, list[list[tuple[float, float]]]] = {}
        for name in ("skips", "eigenvalue"):
            by_seed[name] = [
                [(row["weight_decay"] or PRESET_DECAY, row[name][-1]) for row in rows if row["seed"] == seed]
                for seed in dict.fromkeys(row["seed"] for row in rows)
            ]
        found = {name: bootstrap_interval(groups, decay_trend) for name, groups in by_seed.items()}
        falls = [interval.high < 0 for interval in found.values()]
        lines.append(
            [
                space.upper(),
                str(len(rows)),
                found["skips"].text(),
                found["eigenvalue"].text(),
                "seen" if all(falls) else "in one of the two" if any(falls) else "not seen",
            ]
        )
    return markdown_table(head, lines) if lines else "No space has been searched with two weight decays."


def first_result(epochs: int) -> int:
    """The first epoch, counted from 0, that the rule of the eigenvalue may return: RobustDARTS's tenth of fifty."""
    return epochs // 5


def stopped_by_eigenvalue(row: Row, epochs: int) -> tuple[int, int] | None:
    """After which epoch the rule of the eigenvalue would have stopped a search, and the epoch of its result."""
    rule = eigenvalue(1, first=first_result(epochs))
    history = [Epoch(number, {EIGENVALUE: value}, {}) for number, value in enumerate(row["eigenvalue"], 1)]
    return stopped_by(rule, history)


def stopped_by_skips(row: Row) -> tuple[int, int] | None:
    """The same for a limit of skip connections, whose result is the epoch before it is reached."""
    after = next((number for number, skips in enumerate(row["skips"], 1) if skips >= SKIP_LIMIT), None)
    return None if after is None else (after, max(after - 1, 1))


def _guards_table(results: Results) -> str:
    """What each guard would have made of each search."""
    head = ["space", "search", "guard", "stops", "after epoch", "skips then kept", "skips at the end"]
    guards: Mapping[str, Callable[[Row], tuple[int, int] | None]] = {
        "eigenvalue": lambda row: stopped_by_eigenvalue(row, results.settings["epochs"]),
        f"{SKIP_LIMIT} skips": stopped_by_skips,
    }
    lines = []
    for space, method, decay in kinds(results):
        rows = _rows(results, space, method, decay)
        for guard, stop in guards.items():
            stopped = [(row, *found) for row in rows if (found := stop(row)) is not None]
            lines.append(
                [
                    space.upper(),
                    words_of(method, decay),
                    guard,
                    f"{len(stopped)} of {len(rows)}",
                    ", ".join(str(after) for _, after, _ in stopped) or "–",
                    ", ".join(f"{row['skips'][result - 1]:.0f}" for row, _, result in stopped) or "–",
                    ", ".join(f"{row['skips'][-1]:.0f}" for row, *_ in stopped) or "–",
                ]
            )
    return markdown_table(head, lines)


def _epochs_figure(results: Results) -> "Figure":
    from matplotlib.figure import Figure

    spaces = results.values("space")
    figure = Figure(figsize=(4.2 * len(spaces) + 2, 6), layout="constrained")
    axes = figure.subplots(2, len(spaces), squeeze=False, sharex=True)
    for column, space in enumerate(spaces):
        searches = [(method, decay) for each, method, decay in kinds(results) if each == space]
        for number, (method, decay) in enumerate(searches):
            colour, style = COLOURS[number % len(COLOURS)], "-" if decay is None else "--"
            for place, name in enumerate(("skips", "eigenvalue")):
                curves = [row[name] for row in _rows(results, space, method, decay)]
                length = min(map(len, curves))
                mean = np.mean([curve[:length] for curve in curves], axis=0)
                axes[place, column].plot(range(1, length + 1), mean, style, color=colour, label=words_of(method, decay))
        axes[0, column].set_title(space.upper())
        axes[1, column].set_xlabel("epoch")
        axes[1, column].xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_ylabel("skip connections of the normal cell")
    axes[1, 0].set_ylabel("largest eigenvalue of ∇²α L_val")
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure
