"""The positions of the parts of a cell's drawing, in points: geometry without any drawing.

The labels of operations form a column before the node that they lead to, and lines bend only between the layers,
where there are no labels. So labels and nodes cannot overlap, and no line can cover them.
"""

import dataclasses
from collections.abc import Callable, Sequence

from jdarts.genotype import INPUT_STATES, Cell
from jdarts.report.cell_order import LABEL_PITCH, OUTPUT, CellGraph, Heights, layer_heights

LABEL_HEIGHT = 17.0
NODE_WIDTH, OUTER_WIDTH = 24.0, 42.0
#: Length of the arrow from a label to its node.
ARROW = 16.0
PORT_PITCH = 5.0
#: Smallest and largest width of the space between two layers.
CHANNEL = (44.0, 120.0)

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle, in points, y upwards."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def centre(self) -> Point:
        """Its centre."""
        return (self.left + self.right) / 2, (self.bottom + self.top) / 2


@dataclasses.dataclass(frozen=True)
class CellLayout:
    """The positions of all parts of the drawing of one cell; the origin is its lower left corner.

    Attributes:
      width: of the drawing, in points.
      height: of the drawing, in points.
      states: boxes of the inputs and nodes, by state.
      output: box of the cell's output.
      labels: box of each edge's label, in the cell's order.
      edges: line of each edge from its source to its label: points to be joined by curves with horizontal ends.
      outputs: lines of the concatenation to the output, as for `edges`.
    """

    width: float
    height: float
    states: list[Box]
    output: Box
    labels: list[Box]
    edges: list[list[Point]]
    outputs: list[list[Point]]


def lay_out(nodes: Sequence[Cell], concat: Sequence[int], label_width: Callable[[str], float]) -> CellLayout:
    """Places a cell.

    Args:
      nodes: the edges of each node, `((operation, source), …)`.
      concat: states that join the output.
      label_width: width of an operation's label in points.
    """
    graph = CellGraph(nodes, concat)
    heights = layer_heights(graph)
    halves = [{item: graph.box_height(i, item) / 2 for item in layer} for i, layer in enumerate(heights)]
    bottom = min(y - halves[i][item] for i, layer in enumerate(heights) for item, y in layer.items())
    top = max(y + halves[i][item] for i, layer in enumerate(heights) for item, y in layer.items())
    heights = [{item: y - bottom for item, y in layer.items()} for layer in heights]
    spans = _spans(graph, heights, label_width)

    states = []
    for state, layer in enumerate(graph.layer_of):
        y, half, right = heights[layer]["state", state], halves[layer]["state", state], spans[layer][1]
        states.append(Box(right - (OUTER_WIDTH if state < INPUT_STATES else NODE_WIDTH), y - half, right, y + half))
    y, half = heights[graph.last][OUTPUT], halves[graph.last][OUTPUT]
    output = Box(spans[-1][0], y - half, spans[-1][1], y + half)
    labels = _labels(graph, heights, spans, states)
    lines = _lines(graph, heights, spans, states, labels)
    count = len(labels)
    return CellLayout(spans[-1][1], top - bottom, states, output, labels, lines[:count], lines[count:])


def _spans(graph: CellGraph, heights: Heights, label_width: Callable[[str], float]) -> list[tuple[float, float]]:
    """Left and right end of each layer. The steeper the lines between two layers, the wider the space."""
    spans = [(0.0, OUTER_WIDTH)]
    for layer in range(1, graph.last + 1):
        climb = max(
            (abs(heights[layer - 1][a] - heights[layer][b]) for a, b in graph.segments[layer - 1]),
            default=0.0,
        )
        left = spans[-1][1] + min(max(CHANNEL[0], climb * 0.6), CHANNEL[1])
        widths = [label_width(op) for op, _, target in graph.edges if graph.layer_of[target] == layer]
        spans.append((left, left + (max(widths) + ARROW + NODE_WIDTH if widths else OUTER_WIDTH)))
    return spans


def _labels(graph: CellGraph, heights: Heights, spans: list[tuple[float, float]], states: list[Box]) -> list[Box]:
    """The boxes of the labels, in the order in which their lines arrive, so that lines into a node do not cross."""
    labels: dict[int, Box] = {}
    for state in range(INPUT_STATES, len(states)):
        layer = graph.layer_of[state]
        into = [edge for edge, (_, _, target) in enumerate(graph.edges) if target == state]
        into.sort(key=lambda edge: -heights[layer - 1][graph.routes[edge][-2]])
        for i, edge in enumerate(into):
            y = states[state].centre[1] + LABEL_PITCH * ((len(into) - 1) / 2 - i)
            right = states[state].left - ARROW
            labels[edge] = Box(spans[layer][0], y - LABEL_HEIGHT / 2, right, y + LABEL_HEIGHT / 2)
    return [labels[edge] for edge in range(len(graph.edges))]


def _lines(
    graph: CellGraph,
    heights: Heights,
    spans: list[tuple[float, float]],
    states: list[Box],
    labels: list[Box],
) -> list[list[Point]]:
    ends = [(label.left, label.centre[1]) for label in labels]
    ends += [(spans[-1][0], heights[-1][OUTPUT])] * len(graph.concat)
    lines: list[list[Point]] = []
    for route, end in zip(graph.routes, ends):
        line = []
        for layer, item in enumerate(route[1:-1], graph.layer_of[route[0][1]] + 1):
            y = heights[layer][item]
            line += [(spans[layer][0], y), (spans[layer][1], y)]
        lines.append([*line, end])
    for state, box in enumerate(states):
        # Lines leave a state in the order of their directions.
        leaving = [i for i, route in enumerate(graph.routes) if route[0] == ("state", state)]
        leaving.sort(key=lambda i: -lines[i][0][1])
        pitch = min(PORT_PITCH, (box.top - box.bottom - 8) / max(1, len(leaving) - 1))
        for i, line in enumerate(leaving):
            y = box.centre[1] + pitch * ((len(leaving) - 1) / 2 - i)
            lines[line].insert(0, (box.right, y))
    return lines
