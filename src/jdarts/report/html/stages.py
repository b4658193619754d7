"""The section of a search in stages: what each stage was, and which operations it dropped."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from jdarts.report.cell_figure import HEADINGS
from jdarts.report.formatting import duration
from jdarts.report.html import comparison, markup
from jdarts.report.html.alphas import chosen_edges, edge_name, edges_of
from jdarts.report.html.markup import Cell
from jdarts.report.html.run_data import RunData
from jdarts.space import CELL_KINDS

#: Settings that may differ between stages, with their headings.
_SETTINGS = {
    "cells": "cells",
    "channels": "channels",
    "partial_channels": "partial channels",
    "skip_dropout": "skip dropout",
}

#: The candidates of each edge, by kind of cell.
Operations = Mapping[str, Sequence[Sequence[str]]]


def stages_html(run: RunData, place: Path) -> str:
    """The section of a search whose earlier stages are known.

    Args:
      run: the last stage.
      place: the folder of the page.
    """
    stages = (*run.earlier, run)
    operations = [_operations(each) for each in stages]
    parts = [_table(run, operations, place)]
    for kind in CELL_KINDS:
        tables = [each.get(kind) for each in operations]
        if tables[0] is not None and all(each is not None and len(each) == len(tables[0]) for each in tables):
            parts.append(_dropped(kind, [each for each in tables if each is not None], run))
    return "".join(parts)


def _operations(run: RunData) -> Operations:
    """The candidates that a stage has; empty where its folder does not tell."""
    listed = run.settings.get("edge_operations")
    if isinstance(listed, list) and len(listed) == len(CELL_KINDS) and all(map(_is_edges, listed)):
        return dict(zip(CELL_KINDS, listed))
    mixture = next((each.mixture for each in reversed(run.epochs) if each.mixture is not None), None)
    return {} if mixture is None else mixture.operations


def _is_edges(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(edge, list) and all(isinstance(name, str) for name in edge) for edge in value
    )


def _table(run: RunData, operations: Sequence[Operations], place: Path) -> str:
    """A row for each stage."""
    stages = (*run.earlier, run)
    shown = [name for name in _SETTINGS if len({str(each.settings.get(name)) for each in stages}) > 1]
    header = ["stage", "state", "epochs", "operations of an edge", *(_SETTINGS[name] for name in shown)]
    header += ["validation accuracy", "decided edges", "time"]
    rows, links = [], []
    for stage, candidates in zip(stages, operations):
        counts = sorted({len(edge) for edges in candidates.values() for edge in edges})
        reached = comparison.score(stage)
        share = comparison.decided_share(stage)
        rows.append(
            [
                Cell(str(stage.settings.get("stage"))),
                Cell(stage.state),
                Cell(str(len(stage.epochs)), float(len(stage.epochs))),
                Cell("–".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else ""),
                *(Cell(str(stage.settings.get(name, ""))) for name in shown),
                Cell(reached.text(), reached.value) if reached else Cell(""),
                Cell("" if share is None else f"{100 * share:.0f} %", share),
                Cell("" if stage.seconds is None else duration(stage.seconds), stage.seconds),
            ]
        )
        links.append(markup.page_link(stage.folder, place) if stage is not run else None)
    seconds = [stage.seconds for stage in stages]
    total = "" if None in seconds else f" All stages together took {duration(sum(filter(None, seconds)))}."
    note = f"The stages ran one after the other; the rest of this page shows the last one.{total}"
    return markup.paragraph(note, "note") + markup.sorted_table(header, rows, links=links)


def _dropped(kind: str, tables: Sequence[Sequence[Sequence[str]]], run: RunData) -> str:
    """Which operations of each edge the stages dropped, as a table."""
    first, last = tables[0], tables[-1]
    columns = list(dict.fromkeys(name for names in first for name in names))
    edges = edges_of(kind, len(first))
    chosen = set() if run.genotype is None else set(chosen_edges(run.genotype, kind))
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    rows = []
    for row, edge in enumerate(edges):
        cells = []
        for name in columns:
            stage = next((number for number, table in enumerate(tables) if name not in table[row]), None)
            if stage == 0:
                cells.append("<td></td>")
            elif stage is None:
                mark = ' class="chosen"' if (edge, name) in chosen else ""
                cells.append(f'<td{mark} style="background:color-mix(in srgb, var(--blue) 45%, var(--card))">kept</td>')
            else:
                cells.append(f'<td class="soft">{stage}</td>')
        rows.append(f"<tr><th>{escape(edge_name(kind, *edge))}</th>{''.join(cells)}</tr>")
    left = sum(map(len, last))
    note = (
        f"{left} of {sum(map(len, first))} operations are left in the last stage. A number is the stage after which the "
        "operation was dropped; framed: in the derived cell."
    )
    table = f'<table class="heat"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<h3>{HEADINGS[kind]}: what the stages kept</h3>{markup.paragraph(note, "note")}<div class="wide">{table}</div>'
