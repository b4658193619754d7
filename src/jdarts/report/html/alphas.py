"""The section of a search's page on its alphas: a heat map and the derived cell, which change with the epoch."""

import functools
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from jdarts.genotype import INPUT_STATES, AnyGenotype
from jdarts.relaxation import RECURRENT
from jdarts.report.cell_figure import HEADINGS, cell_kinds_of, drawn_nodes
from jdarts.report.html.cell_svg import cell_svg
from jdarts.report.html.run_data import EpochData, RunData
from jdarts.report.html.vega import heat_map_spec


class AlphasSection(NamedTuple):
    """The section.

    Attributes:
      html: its content.
      charts: specifications by the place of each chart; empty without the package that draws them.
      content: what the slider shows, for the page's script.
    """

    html: str
    charts: Mapping[str, Any]
    content: Mapping[str, Any]


#: The drawing of a cell, for pages that are written again and again.
drawing = functools.lru_cache(maxsize=1000)(cell_svg)


def alphas_section(run: RunData, *, drawn: bool) -> AlphasSection | None:
    """The section of a search; None if no epoch has cells.

    Args:
      run: the run.
      drawn: whether the page has the script that draws charts; else the heat map is a table of the last epoch.
    """
    epochs = [each for each in run.epochs if each.genotype is not None]
    if not epochs:
        return None
    latest: Any = epochs[-1].genotype
    kinds = [kind for kind in cell_kinds_of(latest) if all(_has(each.genotype, kind) for each in epochs)]
    cells = {kind: _cell(kind, epochs) for kind in kinds}
    parts, charts = [_slider(epochs)], {}
    if all(each.mixture is None for each in epochs):
        parts.append(
            '<p class="note">This run is older than the record of its mixture, so the cells alone are shown.</p>'
        )
    for kind in kinds:
        heat = ""
        if any(cells[kind]["weights"]):
            which = "A row for each edge;" if drawn else f"Of epoch {epochs[-1].number}, a row for each edge;"
            if drawn:
                charts[f"heat-{kind}"] = heat_map_spec(
                    cells[kind]["edges"], cells[kind]["operations"], _range(cells[kind]["weights"])
                )
                heat = f'<div class="plot" id="heat-{kind}"></div>'
            else:
                heat = _heat_table(cells[kind])
            heat = (
                f'<div class="card"><h3>{HEADINGS[kind]}: weights of the operations</h3><p class="note">{which} '
                f"framed: in the derived cell.</p>{heat}</div>"
            )
        parts.append(
            f'<div class="kind">{heat}<div class="card"><h3>{HEADINGS[kind]}: the derived cell</h3>'
            f'<div class="drawing" id="drawing-{kind}">{drawing(latest, kind)}</div></div></div>'
        )
    content = {"epochs": [each.number for each in epochs], "cells": cells}
    return AlphasSection("".join(parts), charts, content)


def edge_name(kind: str, source: int, node: int) -> str:
    """The name of an edge from a state to a node, both numbered as in `edges_of`."""
    return f"{source} → {node}" if kind == RECURRENT else f"{source_name(source).removeprefix('node ')} → {node}"


def source_name(state: int) -> str:
    """The name of a state of a convolutional cell in plain text."""
    return f"node {state - INPUT_STATES}" if state >= INPUT_STATES else f"c(k−{INPUT_STATES - state})"


def edges_of(kind: str, count: int) -> list[tuple[int, int]]:
    """Source and node of each edge, in the order of the tables. A recurrent cell's first node is 1, and its states start at 0."""
    first, shift = (1, 1) if kind == RECURRENT else (INPUT_STATES, 0)
    found: list[tuple[int, int]] = []
    node = 0
    while len(found) < count:
        found += [(source, node + shift) for source in range(first + node)]
        node += 1
    return found[:count]


def _has(genotype: AnyGenotype | None, kind: str) -> bool:
    return genotype is not None and kind in cell_kinds_of(genotype)


def chosen_edges(genotype: AnyGenotype, kind: str) -> list[tuple[tuple[int, int], str]]:
    """Each edge of a cell, numbered as in `edges_of`, with its operation."""
    nodes, _ = drawn_nodes(genotype, kind)
    shift = INPUT_STATES if kind == RECURRENT else 0
    return [((source - shift, node), name) for node, entries in enumerate(nodes) for name, source in entries if name]


def _slider(epochs: Sequence[EpochData]) -> str:
    last = len(epochs) - 1
    return (
        f'<div class="slider"><button id="play">Play</button><input type="range" id="epoch" min="0" max="{last}" value="{last}" '
        f'aria-label="epoch"><output id="epoch-name">epoch {epochs[-1].number}</output></div>'
    )


def _cell(kind: str, epochs: Sequence[EpochData]) -> dict[str, Any]:
    """What the page's script shows of one kind of cell: tables and drawings by epoch."""
    drawings: list[str] = []
    places: dict[Any, int] = {}
    of_epoch = []
    for each in epochs:
        assert each.genotype is not None
        key = drawn_nodes(each.genotype, kind)
        if key not in places:
            places[key] = len(drawings)
            drawings.append(drawing(each.genotype, kind))
        of_epoch.append(places[key])
    found: dict[str, Any] = {"drawings": drawings, "drawing": of_epoch, "weights": [], "chosen": []}
    first = next((each.mixture for each in epochs if each.mixture and kind in each.mixture.operations), None)
    if first is None:
        return found
    lists = first.operations[kind]
    columns = list(dict.fromkeys(name for names in lists for name in names))
    edges = edges_of(kind, len(lists))
    cells = [(row, columns.index(name)) for row, names in enumerate(lists) for name in names]
    found |= {"edges": [edge_name(kind, *edge) for edge in edges], "operations": columns, "places": cells}
    for each in epochs:
        mixture = each.mixture
        same = mixture is not None and mixture.operations.get(kind) == lists
        table = mixture.weights[kind] if mixture is not None and same else None
        factors = np.ones(len(lists)) if mixture is None else mixture.edges.get(kind, np.ones(len(lists)))
        found["weights"].append(
            None
            if table is None
            else [
                _short(table[row, column] * factors[row])
                for row, names in enumerate(lists)
                for column in range(len(names))
            ]
        )
        assert each.genotype is not None
        chosen = set(chosen_edges(each.genotype, kind))
        found["chosen"].append(
            [place for place, (row, column) in enumerate(cells) if (edges[row], columns[column]) in chosen]
        )
    return found


def _range(tables: Sequence[Sequence[float] | None]) -> tuple[float, float]:
    """Smallest and largest weight of all epochs."""
    numbers = [number for table in tables if table for number in table]
    return min(numbers), max(numbers)


def _heat_table(cell: Mapping[str, Any]) -> str:
    """The table of the last epoch with coloured cells."""
    index = max(place for place, table in enumerate(cell["weights"]) if table)
    weights, chosen = cell["weights"][index], set(cell["chosen"][index])
    low, high = _range(cell["weights"])
    by_place = {tuple(place): number for number, place in enumerate(cell["places"])}
    head = "".join(f"<th>{escape(name)}</th>" for name in cell["operations"])
    rows = []
    for row, edge in enumerate(cell["edges"]):
        parts = []
        for column in range(len(cell["operations"])):
            place = by_place.get((row, column))
            if place is None:
                parts.append("<td></td>")
                continue
            share = 0.0 if high <= low else (weights[place] - low) / (high - low)
            kind = ' class="chosen"' if place in chosen else ""
            colour = f"color-mix(in srgb, var(--blue) {60 * share:.0f}%, var(--card))"
            parts.append(f'<td{kind} style="background:{colour}">{weights[place]:.3f}</td>')
        rows.append(f"<tr><th>{escape(edge)}</th>{''.join(parts)}</tr>")
    body = "".join(rows)
    return f'<div class="wide"><table class="heat"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _short(value: float) -> float:
    return float(f"{value:.4g}")
