"""Drawings of cells as small SVG elements inside a page, whose style sheet colours them for light and dark."""

import itertools
import re
from collections.abc import Sequence
from html import escape

from jdarts.genotype import AnyGenotype
from jdarts.report.cell_figure import (
    BLUE,
    CONCATENATION,
    GREEN,
    HEADINGS,
    MARGIN,
    ORANGE,
    PURPLE,
    STATE,
    draw_layout,
    drawn_nodes,
    label_width,
)
from jdarts.report.cell_layout import Box, Point, lay_out

#: The class of the parts of each colour.
_CLASSES = {
    BLUE[0]: "blue",
    ORANGE[0]: "orange",
    GREEN[0]: "green",
    PURPLE[0]: "purple",
    STATE: "state",
    CONCATENATION: "joined",
}
#: A drawing on a narrow page is no narrower, and scrolls.
_LEAST_WIDTH = 440.0
_ARROW_LENGTH, _ARROW_WIDTH = 5.0, 2.6


def cell_svg(genotype: AnyGenotype, kind: str) -> str:
    """One cell of a genotype as an SVG element.

    Args:
      genotype: the cells.
      kind: which one, from `jdarts.report.cell_figure.cell_kinds_of`.
    """
    nodes, concat = drawn_nodes(genotype, kind)
    layout = lay_out(nodes, concat, label_width)
    width, height = layout.width + 2 * MARGIN, layout.height + 2 * MARGIN
    pen = _SvgPen(height - MARGIN)
    draw_layout(pen, layout, [name for node in nodes for name, _ in node], recurrent=kind == "recurrent")
    return (
        f'<svg class="cell" role="img" aria-label="{HEADINGS[kind]}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" style="min-width:{min(width, _LEAST_WIDTH):.0f}px">{"".join(pen.parts)}</svg>'
    )


class _SvgPen:
    """Collects the elements of a drawing.

    Args:
      bottom: y of the layout's origin, downwards.
    """

    def __init__(self, bottom: float) -> None:
        self.parts: list[str] = []
        self._bottom = bottom

    def box(self, part: str, box: Box, text: str, colours: tuple[str, str], size: float, rounding: float) -> None:
        del part
        left, top = self._at((box.left, box.top))
        x, y = self._at(box.centre)
        self.parts.append(
            f'<g class="{_CLASSES[colours[0]]}"><rect x="{left:.1f}" y="{top:.1f}" width="{box.right - box.left:.1f}" '
            f'height="{box.top - box.bottom:.1f}" rx="{rounding:g}"/>'
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}">{_text(text)}</text></g>'
        )

    def line(self, part: str, points: Sequence[Point], colour: str, width: float) -> None:
        del part
        path = "M{:.1f} {:.1f}".format(*self._at(points[0]))
        for start, end in itertools.pairwise(map(self._at, points)):
            middle = (start[0] + end[0]) / 2
            path += f"C{middle:.1f} {start[1]:.1f} {middle:.1f} {end[1]:.1f} {end[0]:.1f} {end[1]:.1f}"
        self.parts.append(f'<path class="line {_CLASSES[colour]}" stroke-width="{width:g}" d="{path}"/>')

    def arrow(self, part: str, start: Point, end: Point, colour: str) -> None:
        del part
        (x0, y0), (x1, y1) = self._at(start), self._at(end)
        base, half = x1 - _ARROW_LENGTH, _ARROW_WIDTH
        self.parts.append(
            f'<path class="line {_CLASSES[colour]}" stroke-width="1.4" d="M{x0:.1f} {y0:.1f}L{base:.1f} {y1:.1f}"/>'
            f'<path class="tip {_CLASSES[colour]}" d="M{x1:.1f} {y1:.1f}L{base:.1f} {y1 - half:.1f}V{y1 + half:.1f}Z"/>'
        )

    def _at(self, point: Point) -> Point:
        return point[0] + MARGIN, self._bottom - point[1]


def _text(text: str) -> str:
    """The text of a box: `$c_{k-2}$` with a subscript, all else as it is."""
    match = re.fullmatch(r"\$(\w)_\{?(.*?)\}?\$", text)
    if match is None:
        return escape(text)
    below = match[2].replace("{-}", "−")
    return f'{escape(match[1])}<tspan class="below" dy="3">{escape(below)}</tspan>'
