"""Tables and figures of study 2, from its results alone."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jdarts.baselines import BASELINES
from jdarts.report.formatting import markdown_table

from .cell_table import CELLS
from .results import COLOURS, Results
from .statistics import (
    Interval,
    bootstrap_interval,
    chance_of_mean,
    difference_interval,
    mean_and_spread,
    mean_interval,
)
from .study import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST_ORDER = "first_order"
#: The guard that needs measurements of its own.
EIGENVALUE = "eigenvalue"
#: Under every table: whose numbers these are.
SOURCE = (
    "Accuracies: the package analog-nasbench 0.1.3, not the official NAS-Bench-201. Another recipe trained its networks (200 "
    "epochs, one seed each), so that ranks and regrets stand beside no published ones. Two forms of one cell differ by 0.33 "
    "points in it (root mean square)."
)


def tables(results: Results) -> dict[str, str]:
    """The tables, by name."""
    found = {
        "ranks": _ranks_table(results),
        "estimators": _estimators_table(results),
        "guards": _guards_table(results),
        "best": _best_table(results),
    }
    return {name: f"{table}\n\n{SOURCE}" for name, table in found.items() if table}


def figures(results: Results) -> dict[str, Callable[[], "Figure"]]:
    """The figures, by name."""
    found = {
        "epochs": lambda: _over_epochs(results, "ranks", "rank of the cell"),
        "taus": lambda: _over_epochs(results, "taus", "Kendall's τ of the alphas"),
    }
    return {**found, "eigenvalues": lambda: _eigenvalues_figure(results)} if _with_eigenvalues(results) else found


def searches(results: Results) -> dict[tuple[str, str], list[Row]]:
    """The rows of each method and estimator: methods in the order of the settings, the baselines last."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in results.rows:
        found.setdefault((row["method"], row["hypergradient"]), []).append(row)
    methods = list(dict.fromkeys(method for method, _ in found))
    return dict(sorted(found.items(), key=lambda item: (item[0][0] in BASELINES, methods.index(item[0][0]))))


def _of_alphas(results: Results) -> dict[tuple[str, str], list[Row]]:
    return {pair: rows for pair, rows in searches(results).items() if pair[0] not in BASELINES}


def _words(name: str) -> str:
    return {"none": "", "random": "random search", "reinforce": "REINFORCE"}.get(name, name.replace("_", " "))


def _ranks_table(results: Results) -> str:
    head = [
        "method",
        "hypergradient",
        "searches",
        "rank: median (range)",
        "chance of such a mean rank",
        "regret",
        "regret of its best epoch",
        "regret without `none`",
        "τ of the alphas",
        "τ of the shared weights",
        "time of a step",
    ]
    plain = searches(results).get(("darts", FIRST_ORDER))
    lines = []
    for (method, hypergradient), rows in searches(results).items():
        time = "" if method in BASELINES or not plain else f"{_step_time(rows) / _step_time(plain):.1f}"
        chance = f"{chance_of_mean([row['ranks'][-1] / CELLS for row in rows]):.2g}"
        lines.append([_words(method), _words(hypergradient), *_ranks_cells(rows, chance), time])
    if len(of_alphas := _of_alphas(results)) > 1:
        lines.append(["all by alphas", "", *_ranks_cells([row for rows in of_alphas.values() for row in rows], ""), ""])
    regret = results.rows[0]["of_random"]["regret"]
    lines.append(["a cell at random", "", "", f"{(CELLS + 1) // 2:,} (1 to {CELLS:,})", "", f"{regret:.2f}", *[""] * 5])
    return markdown_table(head, lines)


def _ranks_cells(rows: Sequence[Row], chance: str) -> list[str]:
    """What the table of ranks says of some searches; baselines have one cell and no alphas."""
    ranks = [row["ranks"][-1] for row in rows]
    found = [
        f"{len(rows)}",
        f"{np.median(ranks):,.0f} ({min(ranks):,} to {max(ranks):,})",
        chance,
        mean_and_spread([row["regrets"][-1] for row in rows], 2),
    ]
    numbers: list[Callable[[Row], float]] = [
        lambda row: min(row["regrets"]),
        lambda row: row["without_none"]["regret"],
        lambda row: row["taus"][-1],
    ]
    has_alphas = "taus" in rows[0]
    found += [mean_and_spread([number(row) for row in rows], 2) if has_alphas else "" for number in numbers]
    return [*found, mean_and_spread([row["tau_one_hot"] for row in rows], 2)]


def _step_time(rows: Sequence[Row]) -> float:
    return float(np.median([row["processor_seconds_per_step"] for row in rows]))


def by_seed(rows: Sequence[Row], of_row: Callable[[Row], float]) -> dict[int, float]:
    """A number of each search by its seed."""
    return {row["seed"]: of_row(row) for row in rows}


def against_first_order(results: Results, of_row: Callable[[Row], float]) -> dict[tuple[str, str], Interval]:
    """How much an estimator has more than first order with the same method and seed, with the interval over the seeds.

    Beside several methods there is `all`: the mean over the methods of a seed.
    """
    found, pooled = {}, {}
    rows = _of_alphas(results)
    for (method, name), own in rows.items():
        if name == FIRST_ORDER or (method, FIRST_ORDER) not in rows:
            continue
        plain, other = by_seed(rows[method, FIRST_ORDER], of_row), by_seed(own, of_row)
        shared = sorted(plain.keys() & other.keys())
        if not shared:
            continue
        found[method, name] = difference_interval(*([part[seed] for seed in shared] for part in (other, plain)))
        for seed in shared:
            pooled.setdefault(name, {}).setdefault(seed, []).append(other[seed] - plain[seed])
    several = len({method for method, _ in found}) > 1
    for name, seeds in pooled.items() if several else ():
        found["all", name] = mean_interval([float(np.mean(each)) for each in seeds.values()])
    return found


def _estimators_table(results: Results) -> str:
    numbers: dict[str, tuple[Callable[[Row], float], int]] = {
        "rank at the end": (lambda row: row["ranks"][-1], 0),
        "rank, mean of the epochs": (lambda row: float(np.mean(row["ranks"])), 0),
        "regret at the end": (lambda row: row["regrets"][-1], 1),
        "τ of the alphas": (lambda row: row["taus"][-1], 2),
        "τ of the shared weights": (lambda row: row["tau_one_hot"], 2),
    }
    found = {name: (against_first_order(results, of_row), digits) for name, (of_row, digits) in numbers.items()}
    lines = [
        [_words(method), _words(name), *(verdict(each[method, name], digits) for each, digits in found.values())]
        for method, name in next(iter(found.values()))[0]
    ]
    return markdown_table(["method", "minus first order", *found], lines) if lines else ""


def verdict(difference: Interval, digits: int = 2) -> str:
    """A difference with its interval, in bold if the interval does not hold 0."""
    text = difference.text(digits)
    return f"**{text}**" if difference.low > 0 or difference.high < 0 else text


#: Rules that read nothing: what guards have to beat.
_WITHOUT_READING: Mapping[str, Callable[[Row], float]] = {
    "always the first epoch": lambda row: row["regrets"][0],
    "an epoch at random": lambda row: float(np.mean(row["regrets"])),
}


def _guards_table(results: Results) -> str:
    rows = [row for found in _of_alphas(results).values() for row in found]
    if not rows:
        return ""
    lines = []
    for name in dict.fromkeys(name for row in rows for name in row["stops"]):
        judged = [row for row in rows if name in row["stops"]]
        stopped = [row for row in judged if row["stops"][name] is not None]
        at_best = [row for row in stopped if _at_stop(row, name) == min(row["regrets"])]
        line = [name, f"{len(stopped)} of {len(judged)}"]
        line += _regrets(stopped, functools.partial(_at_stop, name=name)) if stopped else [""] * 4
        lines.append([*line, f"{len(at_best)} of {len(stopped)}" if stopped else ""])
    measured = [row for row in rows if EIGENVALUE in row["stops"]]
    parts = {"": rows, ", where the eigenvalue is measured": measured if len(measured) < len(rows) else []}
    for where, part in parts.items():
        lines += [[f"{name}{where}", "", *_regrets(part, at), ""] for name, at in _WITHOUT_READING.items() if part]
    head = ["guard", "stops", "regret where it stops", "regret at the end", "gain", "regret of the best epoch"]
    return markdown_table([*head, "stops at the best"], lines)


def _regrets(rows: Sequence[Row], where: Callable[[Row], float]) -> list[str]:
    """The mean regret where a rule stops, at the end, their difference and that of the best epoch, over seeds as a whole."""
    seeds = sorted({row["seed"] for row in rows})
    groups = [[row for row in rows if row["seed"] == seed] for seed in seeds]

    def mean(of_row: Callable[[Row], float]) -> Interval:
        numbers = [[of_row(row) for row in group] for group in groups]
        return bootstrap_interval(numbers, lambda found: float(np.mean([each for group in found for each in group])))

    gain = mean(lambda row: row["regrets"][-1] - where(row))
    return [
        mean(where).text(),
        mean(lambda row: row["regrets"][-1]).text(),
        verdict(gain) if len(seeds) > 1 else gain.text(),
        mean(lambda row: min(row["regrets"])).text(),
    ]


def _at_stop(row: Row, name: str) -> float:
    return row["regrets"][row["stops"][name] - 1]


def best_epoch(row: Row) -> int:
    """The first of the epochs with the smallest regret, from 1."""
    return 1 + row["regrets"].index(min(row["regrets"]))


def _best_table(results: Results) -> str:
    """Where each search was at its best, and where the guards would have stopped it."""
    found = _of_alphas(results)
    if not found:
        return ""
    names = list(dict.fromkeys(name for rows in found.values() for row in rows for name in row["stops"]))
    lines = []
    for (method, hypergradient), rows in found.items():
        lines.append([_words(method), _words(hypergradient), _epochs(map(best_epoch, rows))])
        for name in names:
            lines[-1].append(
                _epochs(row["stops"].get(name) for row in rows) if name in rows[0]["stops"] else "not measured"
            )
    return markdown_table(["method", "hypergradient", "best epoch", *(f"stop by {name}" for name in names)], lines)


def _epochs(numbers: Iterable[int | None]) -> str:
    """Epochs of searches in the order of their seeds; – for a search that a guard lets run to its end."""
    return ", ".join("–" if number is None else str(number) for number in numbers)


def _eigenvalues_figure(results: Results) -> "Figure":
    """The largest eigenvalue over the epochs: a panel for each method and estimator, a line for each search."""
    from matplotlib.figure import Figure

    found = _with_eigenvalues(results)
    figure = Figure(figsize=(2.8 * len(found) + 0.8, 3.4), facecolor="white", layout="constrained")
    axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for panel, ((method, name), rows) in zip(axes, found.items()):
        for place, row in enumerate(rows):
            values, best, stop = row["eigenvalues"], best_epoch(row), row["stops"][EIGENVALUE]
            colour = COLOURS[place % len(COLOURS)]
            panel.plot(range(1, len(values) + 1), values, color=colour, linewidth=1.2, label=f"seed {row['seed']}")
            panel.plot(best, values[best - 1], "o", color=colour, markersize=6, linestyle="none")
            if stop is not None:
                panel.plot(stop, values[stop - 1], "x", color=colour, markersize=8, markeredgewidth=2, linestyle="none")
        panel.plot([], [], "o", color="#444444", linestyle="none", label="its best epoch")
        panel.plot([], [], "x", color="#444444", linestyle="none", label="the guard's epoch")
        panel.set_yscale("log")
        panel.set_title(f"{_words(method)}, {_words(name)}", fontsize=10)
        panel.set_xlabel("epoch")
        panel.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel("largest eigenvalue of ∇²α L_val")
    _legend(figure, axes)
    return figure


def _with_eigenvalues(results: Results) -> dict[tuple[str, str], list[Row]]:
    """The searches in which the largest eigenvalue was measured."""
    return {pair: rows for pair, rows in _of_alphas(results).items() if EIGENVALUE in rows[0]["stops"]}


def _over_epochs(results: Results, what: str, label: str) -> "Figure":
    """A number of the searches over the epochs: a panel for each estimator, a line for each method, the median of its seeds."""
    from matplotlib.figure import Figure

    rows = _of_alphas(results)
    names = list(dict.fromkeys(name for _, name in rows))
    methods = list(dict.fromkeys(method for method, _ in rows))
    figure = Figure(figsize=(2.6 * len(names) + 1.0, 3.4), facecolor="white", layout="constrained")
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(axes, names):
        for place, method in enumerate(methods):
            if (method, name) not in rows:
                continue
            values = np.array([row[what] for row in rows[method, name]], float)
            epochs = np.arange(1, values.shape[1] + 1)
            colour = COLOURS[place % len(COLOURS)]
            panel.plot(epochs, np.median(values, axis=0), color=colour, label=_words(method))
            panel.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.12, linewidth=0)
        if what == "ranks":
            panel.axhline((CELLS + 1) / 2, color="#444444", linestyle=":", label="a cell at random")
        else:
            panel.axhline(0, color="#444444", linestyle=":", label="scores at random")
        panel.set_title(_words(name), fontsize=10)
        panel.set_xlabel("epoch")
        panel.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel(label)
    _legend(figure, axes)
    return figure


def _legend(figure: "Figure", axes: Sequence[Any]) -> None:
    """One legend below all panels, with the labels that do not begin with an underscore."""
    lines = {str(line.get_label()): line for panel in axes for line in panel.get_lines()}
    handles = {label: line for label, line in lines.items() if not label.startswith("_")}
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(2 * len(axes), len(handles)),
        frameon=False,
        fontsize=9,
    )
