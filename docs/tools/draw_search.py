"""Draws a search as an SVG that moves, its alphas turning into a cell: `python docs/tools/draw_search.py RUN docs/search.svg`.

The picture of the README is that of `make search`.
"""

import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from jdarts.report.cell_figure import BLUE, CONCATENATION, GREEN, ORANGE, PURPLE, STATE, STATE_FILL, TEXT
from jdarts.report.html.alphas import chosen_edges, edge_name, edges_of
from jdarts.report.html.cell_svg import cell_svg
from jdarts.report.html.run_data import EpochData, read_run

KIND = "normal"
#: Seconds of an epoch and of the last one.
EPOCH, LAST = 0.45, 3.0
#: Sizes in pixels: the picture's width, the table's left edge and top, a cell of it, and where the drawing begins.
WIDTH, LEFT, TOP, ACROSS, DOWN, DRAWING = 980, 84, 104, 34, 22, 390

STYLE = f"""text {{ font-family: "DejaVu Sans", Verdana, sans-serif; fill: {TEXT}; }}
.cell text {{ text-anchor: middle; dominant-baseline: central; }} .below {{ font-size: 70%; }} .line {{ fill: none; }}
""" + "\n".join(
    f".{name} rect {{ stroke: {line}; fill: {fill}; }} .line.{name} {{ stroke: {line}; }} .tip.{name} {{ fill: {line}; }}"
    for name, (line, fill) in {
        "blue": BLUE,
        "orange": ORANGE,
        "green": GREEN,
        "purple": PURPLE,
        "state": (STATE, STATE_FILL),
        "joined": (CONCATENATION, CONCATENATION),
    }.items()
)


def main(run: Path, output: Path) -> None:
    """Writes the picture of a finished search."""
    epochs = [each for each in read_run(run).epochs if each.mixture is not None and each.genotype is not None]
    table, height = heat_map(epochs)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-size="12"><style>{STYLE}</style>'
        f'<rect width="100%" height="100%" rx="8" fill="white"/>{table}{drawings(epochs, height)}</svg>\n'
    )
    output.write_text(text)


def heat_map(epochs: Sequence[EpochData]) -> tuple[str, int]:
    """The weights of the operations, whose colours change with the epochs; and the height of the picture."""
    mixtures = [each.mixture for each in epochs if each.mixture is not None]
    cells = [set(chosen_edges(each.genotype, KIND)) for each in epochs if each.genotype is not None]
    lists = mixtures[0].operations[KIND]
    columns = list(dict.fromkeys(name for names in lists for name in names))
    largest = max(float(each.weights[KIND].max()) for each in mixtures)
    parts = ['<text x="10" y="24">weights of the operations on each edge</text>']
    for column, name in enumerate(columns):
        x = LEFT + ACROSS * (column + 0.4)
        parts.append(f'<text transform="translate({x:.0f} {TOP - 8}) rotate(-40)">{escape(name)}</text>')
    for row, (edge, names) in enumerate(zip(edges_of(KIND, len(lists)), lists)):
        y = TOP + DOWN * row
        parts.append(f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{edge_name(KIND, *edge)}</text>')
        for place, name in enumerate(names):
            x = LEFT + ACROSS * columns.index(name)
            colours = [_shade(float(each.weights[KIND][row, place]) / largest) for each in mixtures]
            chosen = ["1" if (edge, name) in cell else "0" for cell in cells]
            box = f'x="{x}" y="{y}" width="{ACROSS - 2}" height="{DOWN - 2}"'
            parts.append(f'<rect {box} fill="{colours[-1]}">{_animate("fill", colours)}</rect>')
            if "1" in chosen:
                frame = f'<rect {box} fill="none" stroke="{TEXT}" stroke-width="2" opacity="{chosen[-1]}">'
                parts.append(f"{frame}{_animate('opacity', chosen)}</rect>")
    return "".join(parts), TOP + DOWN * len(lists) + 24


def drawings(epochs: Sequence[EpochData], height: int) -> str:
    """The derived cell of each epoch, and its number."""
    of_epoch = [cell_svg(each.genotype, KIND) for each in epochs if each.genotype is not None]
    parts = []
    for text in dict.fromkeys(of_epoch):
        shown = ["1" if each == text else "0" for each in of_epoch]
        nested = text.replace("<svg ", f'<svg x="{DRAWING}" y="{TOP - 40}" ', 1)
        size = f'width="{WIDTH - DRAWING - 10}" height="{height - TOP + 20}" preserveAspectRatio="xMinYMid meet"'
        nested = _sized(nested, size)
        parts.append(f'<g opacity="{shown[-1]}">{_animate("opacity", shown)}{nested}</g>')
    for each in epochs:
        shown = ["1" if other is each else "0" for other in epochs]
        words = f"epoch {each.number}: the derived cell"
        parts.append(
            f'<text x="{DRAWING + 12}" y="24" opacity="{shown[-1]}">{words}{_animate("opacity", shown)}</text>'
        )
    return "".join(parts)


def _sized(svg: str, size: str) -> str:
    """A drawing with attributes of another size."""
    head, rest = svg.split(">", 1)
    start = head.index(" width=")
    return f"{head[:start]} {size}>{rest}"


def _animate(name: str, values: Sequence[str]) -> str:
    """An attribute that steps through values again and again; the last one stays longest. Equal values need no step."""
    if len(set(values)) == 1:
        return ""
    whole = EPOCH * (len(values) - 1) + LAST
    steps = [(place, value) for place, value in enumerate(values) if place == 0 or value != values[place - 1]]
    times = ";".join(f"{EPOCH * place / whole:.4g}" for place, _ in steps)
    listed = ";".join(value for _, value in steps)
    return (
        f'<animate attributeName="{name}" calcMode="discrete" dur="{whole:g}s" repeatCount="indefinite" keyTimes="{times}" '
        f'values="{listed}"/>'
    )


def _shade(share: float) -> str:
    """A colour between white and blue."""
    low, high = (244, 248, 251), (8, 81, 140)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(low, high))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
