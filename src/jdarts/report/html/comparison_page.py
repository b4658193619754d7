"""The page that puts several runs side by side."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from jdarts.report.cell_figure import HEADINGS
from jdarts.report.formatting import duration
from jdarts.report.html import comparison, markup
from jdarts.report.html.alphas import edge_name
from jdarts.report.html.comparison import Group
from jdarts.report.html.markup import Cell
from jdarts.report.html.run_data import RunData
from jdarts.report.html.run_page import cell_cards, charts_html
from jdarts.report.html.series import Panel, Series, panels
from jdarts.report.html.template import Section, document
from jdarts.report.html.vega import can_draw, matrix_spec, runs_spec

#: The curves of a comparison: title of a run's panel, and the curve of it.
_CURVES = (
    ("Loss", "evaluation"),
    ("Loss", "held out"),
    ("Loss", "training"),
    ("Accuracy", "evaluation"),
    ("Accuracy", "held out"),
    ("Perplexity", "evaluation"),
    ("Entropy of the mixture", "normal cell"),
    ("Entropy of the mixture", "recurrent cell"),
    ("Decided edges", "normal cell"),
    ("Decided edges", "reduction cell"),
    ("Decided edges", "recurrent cell"),
    ("Skip connections in the derived cell", "normal cell"),
    ("Changes of the genotype", "normal cell"),
)
#: More drawings are folded.
_SHOWN_RUNS = 4


class Parts(NamedTuple):
    """The sections of a page, and the specifications of their charts by place."""

    sections: Sequence[Section]
    charts: Mapping[str, Any]


def comparison_page(runs: Sequence[RunData], folder: Path) -> str:
    """The page as HTML.

    Args:
      runs: the runs.
      folder: of the page; links to the runs' own pages are relative to it.
    """
    names = comparison.labels([run.folder for run in runs])
    parts = compared(runs, comparison.groups(runs), folder)
    title = f"{len(runs)} runs"
    head = f'<header><h1>{title}</h1><p class="soft">{escape(", ".join(names))}</p></header>{problems_html(runs)}'
    return document(title, head, parts.sections, charts=parts.charts, content={}, live=False)


def problems_html(runs: Sequence[RunData]) -> str:
    """What could not be read of the runs."""
    names = comparison.labels([run.folder for run in runs])
    return markup.problems(f"{name}: {text}" for run, name in zip(runs, names) for text in run.problems)


def compared(runs: Sequence[RunData], found: Sequence[Group], folder: Path) -> Parts:
    """The sections that compare runs.

    Args:
      runs: the runs.
      found: their groups.
      folder: of the page.
    """
    names = comparison.labels([run.folder for run in runs])
    of_run = {index: group.name for group in found for index in group.runs}
    charts: dict[str, Any] = {}
    drawn = can_draw()
    sections = [
        Section("runs", "The runs", _table(runs, names, of_run if len(found) > 1 else {}, folder)),
        Section("groups", "Mean and spread", _groups(runs, found)),
    ]
    if drawn:
        curves = _curves(runs, names, of_run)
        charts |= {f"chart-{number}": spec for number, (_, spec) in enumerate(curves)}
        note = '<p class="note">Thin lines: runs. Strong lines: the mean of a group, with one standard deviation around it.</p>'
        sections.append(Section("curves", "Curves", note + charts_html([panel for panel, _ in curves])))
    kinds = comparison.kinds_of(runs)
    if kinds:
        html, specs = _agreement(runs, names, kinds, drawn=drawn)
        charts |= specs if drawn else {}
        sections.append(Section("agreement", "Agreement of the cells", html))
    if comparison.finders(runs):
        sections.append(Section("cells", "The cells", _cells(runs, names)))
    return Parts(sections, charts)


def _table(runs: Sequence[RunData], names: Sequence[str], of_run: Mapping[int, str], folder: Path) -> str:
    """The table of the runs; `of_run` has the name of each run's group, or nothing for a single group."""
    header = ["run", "score", "what", "state", *(["group"] if of_run else []), "dataset", "method", "hypergradient"]
    header += ["seed", "epochs", "decided edges", "skips", "time"]
    rows = []
    for index, run in enumerate(runs):
        reached, last = comparison.score(run), run.epochs[-1].numbers if run.epochs else {}
        skips = [last[name] for name in last if name.startswith("guards_skips_")]
        seed = run.settings.get("seed")
        row = [Cell(names[index])]
        row += [Cell(reached.text(), reached.value), Cell(reached.name)] if reached else [Cell(""), Cell("")]
        row += [Cell(run.state), *([Cell(of_run[index])] if of_run else [])]
        row += [Cell(_text(run.settings.get(name))) for name in ("dataset", "method", "hypergradient")]
        row += [Cell(_text(seed), float(seed) if isinstance(seed, int) else None)]
        row += [Cell(str(len(run.epochs)), float(len(run.epochs)))]
        share = comparison.decided_share(run)
        row += [Cell("" if share is None else f"{100 * share:.0f} %", share)]
        row += [Cell(" + ".join(f"{each:.0f}" for each in skips), sum(skips) if skips else None)]
        row += [Cell("" if run.seconds is None else duration(run.seconds), run.seconds)]
        rows.append((row, markup.page_link(run.folder, folder)))
    note = '<p class="note">A click on a heading sorts by its column.</p>'
    return note + markup.sorted_table(header, [row for row, _ in rows], links=[link for _, link in rows])


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _groups(runs: Sequence[RunData], found: Sequence[Group]) -> str:
    rows = []
    for group in found:
        scores = [each for index in group.runs if (each := comparison.score(runs[index]))]
        for name in dict.fromkeys(each.name for each in scores):
            own = [each for each in scores if each.name == name]
            mean, spread = comparison.mean_and_spread([each.value for each in own])
            middle, least, most = (own[0]._replace(value=value) for value in (mean, min(own).value, max(own).value))
            around = "" if spread is None else f" ± {own[0]._replace(value=spread).text()}"
            cells = [
                Cell(group.name),
                Cell(name),
                Cell(str(len(own)), float(len(own))),
                Cell(middle.text() + around, mean),
            ]
            rows.append([*cells, Cell(least.text(), least.value), Cell(most.text(), most.value)])
    if not rows:
        return markup.paragraph("No run has a score yet.")
    note = (
        '<p class="note">The runs of a group differ in the seed alone, those of a pipeline in their cells too; mean ± standard '
        "deviation (with n − 1).</p>"
    )
    return note + markup.sorted_table(("group", "score", "runs", "mean", "lowest", "highest"), rows)


def _curves(
    runs: Sequence[RunData], names: Sequence[str], of_run: Mapping[int, str]
) -> list[tuple[Panel, dict[str, Any]]]:
    """The charts: a line for each run."""
    of_runs = [
        {(panel.title, each.name): (panel, each) for panel in panels(run) for each in panel.series} for run in runs
    ]
    found = []
    for key in _CURVES:
        there = {index: curves[key] for index, curves in enumerate(of_runs) if key in curves}
        if not there:
            continue
        panel = next(iter(there.values()))[0]
        series: list[Series] = [each._replace(name=names[index], pale=()) for index, (_, each) in there.items()]
        shown = panel._replace(title=f"{key[0]}: {key[1]}", series=tuple(series))
        found.append((shown, runs_spec(shown, [of_run[index] for index in there])))
    return found


def _agreement(
    runs: Sequence[RunData], names: Sequence[str], kinds: Sequence[str], *, drawn: bool
) -> tuple[str, dict[str, Any]]:
    parts, charts = [], {}
    for kind in kinds:
        shares = comparison.agreement(runs, kind)
        pairs = [share for (one, other), share in shares.items() if one < other]
        count = len({one for one, _ in shares})
        text = (
            f"{HEADINGS[kind]}: on average, two of the {count} cells share {100 * sum(pairs) / len(pairs):.0f} % of their edges "
            "with the same operation."
        )
        rows = [
            [
                Cell(edge_name(kind, each.source, each.node)),
                Cell(f"{each.cells} of {count}", float(each.cells)),
                Cell(", ".join(f"{name} {number}" for name, number in each.operations.most_common())),
            ]
            for each in comparison.edge_counts(runs, kind)
        ]
        charts[f"matrix-{kind}"] = matrix_spec(
            [{"a": names[one], "b": names[other], "s": round(share, 3)} for (one, other), share in shares.items()],
            [names[index] for index in sorted({one for one, _ in shares})],
        )
        table = markup.sorted_table(("edge", "cells", "operations"), rows)
        heading = HEADINGS[kind]
        place = f'<div class="plot" id="matrix-{kind}"></div>'
        matrix = f'<div class="card"><h3>{heading}: shared edges of two runs</h3>{place}</div>'
        edges = f'<div class="card"><h3>{heading}: edge by edge</h3>{table}</div>'
        parts.append(f'{markup.paragraph(text)}<div class="kind">{matrix if drawn else ""}{edges}</div>')
    return "".join(parts), charts


def _cells(runs: Sequence[RunData], names: Sequence[str]) -> str:
    parts = [cell_cards(genotype, f"{names[index]}: ") for index, genotype in comparison.finders(runs).items()]
    shown, more = parts[:_SHOWN_RUNS], parts[_SHOWN_RUNS:]
    rest = (
        markup.folded(f"The cells of {len(more)} more runs", f'<div class="cells">{"".join(more)}</div>')
        if more
        else ""
    )
    return f'<div class="cells">{"".join(shown)}</div>{rest}'
