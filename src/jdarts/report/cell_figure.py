"""Pictures of cells with matplotlib, through its objects alone."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath

from jdarts.genotype import INPUT_STATES, AnyGenotype, Cell, Genotype
from jdarts.operations import ACTIVATIONS, OPERATIONS, Family
from jdarts.report.cell_layout import ARROW, Box, CellLayout, Point, lay_out
from jdarts.space import CELL_NAMES

HEADINGS = {kind: name.capitalize() for kind, name in CELL_NAMES.items()}
TITLE_SIZE, LABEL_SIZE = 13, 9.5
MARGIN, HEADING, BETWEEN = 12.0, 26.0, 26.0

# Okabe and Ito's colours, which are distinct for any kind of colour vision: line, fill.
BLUE = ("#0072B2", "#E3F1FA")
ORANGE = ("#D55E00", "#FCEBDD")
GREEN = ("#009E73", "#E0F4EE")
PURPLE = ("#8A4F7D", "#F5EAF2")
COLOURS: Mapping[Family, tuple[str, str]] = {
    "convolution": BLUE,
    "pool": ORANGE,
    "skip": GREEN,
    "smooth": BLUE,
    "rectifier": ORANGE,
    "other": PURPLE,
}
STATE, STATE_FILL, TEXT = "#444444", "#F2F2F2", "#1A1A1A"
CONCATENATION = "#A8A8A8"


def cell_kinds_of(genotype: AnyGenotype) -> tuple[str, ...]:
    """Which cells a genotype holds: `normal` and `reduce` or one of them, or `recurrent`."""
    return genotype.kinds if isinstance(genotype, Genotype) else ("recurrent",)


def drawn_nodes(genotype: AnyGenotype, kind: str) -> tuple[tuple[Cell, ...], tuple[int, ...]]:
    """The edges of every node of a cell, and the states that join the output, numbered after its two inputs.

    The first node of a recurrent cell is its state 0, whose edges from the input and the last hidden state have no
    operation.
    """
    if isinstance(genotype, Genotype):
        is_normal = kind == "normal"
        concat = genotype.normal_concat if is_normal else genotype.reduce_concat
        return genotype.nodes("normal" if is_normal else "reduce"), concat
    nodes = [((name, source + INPUT_STATES),) for name, source in genotype.recurrent]
    first = (("", 0), ("", 1))
    return (first, *nodes), tuple(state + INPUT_STATES for state in genotype.concat)


def cells_figure(genotype: AnyGenotype, kinds: Sequence[str], title: str | None) -> Figure:
    """The cells of a genotype below one another, each part with an identifier such as `normal-label-3`.

    Args:
      genotype: the cells.
      kinds: which of them, from `cell_kinds_of`.
      title: a line above, or None.
    """
    cells = [drawn_nodes(genotype, kind) for kind in kinds]
    layouts = [lay_out(nodes, concat, label_width) for nodes, concat in cells]
    width = max(_title_width(title), *(layout.width for layout in layouts)) + 2 * MARGIN
    height = sum(HEADING + layout.height + BETWEEN for layout in layouts) - BETWEEN + 2 * MARGIN
    height += HEADING if title else 0
    figure = Figure(figsize=(width / 72, height / 72), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    top = height - MARGIN
    if title:
        axes.text(MARGIN, top, title, size=TITLE_SIZE, weight="bold", color=TEXT, va="top", parse_math=False)
        top -= HEADING
    for kind, (nodes, _), layout in zip(kinds, cells, layouts):
        axes.text(MARGIN, top, HEADINGS[kind], size=11, weight="bold", color=STATE, va="top")
        top -= HEADING + layout.height
        operations = [name for node in nodes for name, _ in node]
        draw_layout(_AxesPen(axes, kind, (MARGIN, top)), layout, operations, recurrent=kind == "recurrent")
        top -= BETWEEN
    return figure


@functools.cache
def label_width(operation: str) -> float:
    """Width in points of the label of an operation, its padding included; 0 where there is nothing to write."""
    return 0.0 if not operation else TextPath((0, 0), operation, size=LABEL_SIZE).get_extents().width + 14


def _title_width(title: str | None) -> float:
    if not title or title.isspace():
        return 0.0
    bold = FontProperties(weight="bold")
    return TextPath((0, 0), title.replace("$", "S"), size=TITLE_SIZE, prop=bold).get_extents().width


def _colours(operation: str, *, recurrent: bool) -> tuple[str, str]:
    row = ACTIVATIONS[operation] if recurrent else OPERATIONS[operation]
    return COLOURS[row.family]


class Pen(Protocol):
    """Draws the parts of a layout, whose unit is a point and whose y axis points upwards; each part has a name."""

    def box(self, part: str, box: Box, text: str, colours: tuple[str, str], size: float, rounding: float) -> None:
        """A rectangle with text, in colours of line and fill."""
        ...

    def line(self, part: str, points: Sequence[Point], colour: str, width: float) -> None:
        """Points joined by curves with horizontal ends."""
        ...

    def arrow(self, part: str, start: Point, end: Point, colour: str) -> None:
        """An arrow."""
        ...


class _AxesPen:
    """Draws on axes."""

    def __init__(self, axes: Axes, name: str, origin: Point) -> None:
        self.axes, self.name, self.origin = axes, name, origin

    def box(self, part: str, box: Box, text: str, colours: tuple[str, str], size: float, rounding: float) -> None:
        x, y = self.origin
        patch = FancyBboxPatch(
            (x + box.left, y + box.bottom),
            box.right - box.left,
            box.top - box.bottom,
            boxstyle=f"round,pad=0,rounding_size={rounding}",
            edgecolor=colours[0],
            facecolor=colours[1],
            linewidth=1.1,
            zorder=3,
            gid=f"{self.name}-{part}",
        )
        self.axes.add_patch(patch)
        centre = (x + box.centre[0], y + box.centre[1])
        kind = {"ha": "center", "va": "center_baseline", "zorder": 4, "gid": f"{self.name}-{part}-text"}
        self.axes.text(*centre, text, size=size, color=TEXT, **kind)

    def line(self, part: str, points: Sequence[Point], colour: str, width: float) -> None:
        x, y = self.origin
        vertices, codes = [points[0]], [Outline.MOVETO]
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            middle = (x0 + x1) / 2
            vertices += [(middle, y0), (middle, y1), (x1, y1)]
            codes += [Outline.CURVE4] * 3
        outline = Outline([(x + a, y + b) for a, b in vertices], codes)
        self.axes.add_patch(
            PathPatch(outline, fill=False, edgecolor=colour, linewidth=width, gid=f"{self.name}-{part}")
        )

    def arrow(self, part: str, start: Point, end: Point, colour: str) -> None:
        x, y = self.origin
        patch = FancyArrowPatch(
            *((x + a, y + b) for a, b in (start, end)),
            arrowstyle="-|>,head_length=4.5,head_width=2.4",
            mutation_scale=1,
            shrinkA=0,
            shrinkB=0,
            color=colour,
            linewidth=1.4,
            zorder=2,
            gid=f"{self.name}-{part}",
        )
        self.axes.add_patch(patch)


def draw_layout(pen: Pen, layout: CellLayout, operations: Sequence[str], *, recurrent: bool) -> None:
    """Draws a cell.

    Args:
      pen: draws its parts.
      layout: where they are.
      operations: of the edges, in the cell's order; empty for an edge without one.
      recurrent: whether it is a recurrent cell.
    """
    for i, line in enumerate(layout.outputs):
        pen.line(f"concat-{i}", line, CONCATENATION, 1.1)
    if layout.outputs:
        x, y = layout.outputs[0][-1]
        pen.arrow("concat-arrow", (x - 6, y), (x, y), CONCATENATION)
    for i, (line, label, operation) in enumerate(zip(layout.edges, layout.labels, operations)):
        colours = _colours(operation, recurrent=recurrent) if operation else (STATE, STATE_FILL)
        pen.line(f"edge-{i}", line, colours[0], 1.4)
        y = label.centre[1]
        pen.arrow(f"arrow-{i}", (label.right, y), (label.right + ARROW, y), colours[0])
        if operation:
            pen.box(f"label-{i}", label, operation, colours, LABEL_SIZE, 4)
    inputs = ["$x_t$", "$h_{t{-}1}$"] if recurrent else ["$c_{k{-}2}$", "$c_{k{-}1}$"]
    names = [*inputs, *map(str, range(len(layout.states) - 2))]
    for i, (box, name) in enumerate(zip(layout.states, names)):
        pen.box(f"state-{i}", box, name, (STATE, STATE_FILL), 11, 5)
    pen.box("output", layout.output, "$h_t$" if recurrent else "$c_k$", (STATE, STATE_FILL), 11, 5)
