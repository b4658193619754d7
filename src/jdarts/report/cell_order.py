"""The order and the heights of the parts of a cell's drawing: few crossings, then short lines.

The drawing has layers from left to right: the two inputs, then each node one layer right of the last state
that it reads, then the output. An edge that spans several layers has its own lane through each layer between;
the lines of the concatenation share one lane.
"""

import dataclasses
import functools
import itertools
import random
from collections.abc import Sequence

from jdarts.genotype import INPUT_STATES, Cell

LABEL_PITCH = 22.0
BOX_HEIGHT = 24.0
BOX_GAP, LANE_GAP = 14.0, 9.0

#: ("state", its number), ("lane", the number of an edge) or ("output", 0): the output, and the lane to it.
Item = tuple[str, int]
OUTPUT: Item = ("output", 0)
Segments = list[tuple[Item, Item]]
Order = list[list[Item]]
Heights = list[dict[Item, float]]


@dataclasses.dataclass(frozen=True)
class CellGraph:
    """The items of every layer of a drawing, and the segments of lines between neighbouring layers.

    Args:
      nodes: the edges of each node, `((operation, source), …)`.
      concat: states that join the output.
    """

    nodes: Sequence[Cell]
    concat: Sequence[int]

    @functools.cached_property
    def edges(self) -> list[tuple[str, int, int]]:
        """Operation, source and target state of each edge, in the cell's order."""
        return [(op, source, INPUT_STATES + i) for i, node in enumerate(self.nodes) for op, source in node]

    @functools.cached_property
    def layer_of(self) -> list[int]:
        """The layer of each state; a node without inputs is in the first one after the cell's inputs."""
        layers = [0] * INPUT_STATES
        for node in self.nodes:
            layers.append(1 + max((layers[source] for _, source in node), default=0))
        return layers

    @functools.cached_property
    def last(self) -> int:
        """The layer of the output."""
        return 1 + max(self.layer_of)

    @functools.cached_property
    def routes(self) -> list[list[Item]]:
        """The items of each edge's line, one per layer, then those of each concatenated state's line."""
        routes = []
        for edge, (_, source, target) in enumerate(self.edges):
            lanes = self.layer_of[target] - self.layer_of[source] - 1
            routes.append([("state", source), *[("lane", edge)] * lanes, ("state", target)])
        for state in self.concat:
            routes.append([("state", state), *[OUTPUT] * (self.last - self.layer_of[state])])
        return routes

    @functools.cached_property
    def layers(self) -> Order:
        """The items of each layer, not yet in a good order."""
        layers: list[dict[Item, None]] = [{} for _ in range(self.last + 1)]
        for state, layer in enumerate(self.layer_of):
            layers[layer]["state", state] = None
        for route in self.routes:
            for layer, item in enumerate(route, self.layer_of[route[0][1]]):
                layers[layer][item] = None
        return [list(layer) for layer in layers]

    @functools.cached_property
    def segments(self) -> list[Segments]:
        """For each gap between two layers, the pairs of items with a line between them."""
        segments: list[Segments] = [[] for _ in range(self.last)]
        for route in self.routes:
            for gap, pair in enumerate(itertools.pairwise(route), self.layer_of[route[0][1]]):
                # The shared lane to the output is one line.
                if pair != (OUTPUT, OUTPUT) or pair not in segments[gap]:
                    segments[gap].append(pair)
        return segments

    def is_lane(self, layer: int, item: Item) -> bool:
        """Whether the item is only a line."""
        return item[0] == "lane" or (item == OUTPUT and layer < self.last)

    def box_height(self, layer: int, item: Item) -> float:
        """Height of an item in points, 0 for a lane."""
        if self.is_lane(layer, item):
            return 0.0
        if item == OUTPUT or item[1] < INPUT_STATES:
            return BOX_HEIGHT
        return max(BOX_HEIGHT, LABEL_PITCH * len(self.nodes[item[1] - INPUT_STATES]))


def layer_heights(graph: CellGraph, starts: int = 24) -> Heights:
    """The heights in points of the centres of all items, by layer, y upwards.

    A local search for few crossings runs from several starts; among equal results the shortest lines win. The starts
    are fixed, so the same cell always gives the same drawing.
    """
    random_numbers = random.Random(0)
    orders: list[Order] = []
    for start in range(starts):
        order = [list(layer) for layer in graph.layers]
        if start:
            for layer in order[1:]:
                random_numbers.shuffle(layer)
        _search(graph, order)
        if order not in orders:
            orders.append(order)
    fewest = min(_crossings(graph, order) for order in orders)
    candidates = [_heights(graph, order) for order in orders if _crossings(graph, order) == fewest]
    return min(candidates, key=lambda heights: _length(graph, heights))


def _search(graph: CellGraph, order: Order) -> None:
    """Improves an order in place; the inputs stay as they are."""
    for _ in range(6):
        for layer in range(1, graph.last):
            _sort_by_neighbours(order, layer, layer - 1, graph.segments[layer - 1])
        for layer in range(graph.last - 1, 0, -1):
            _sort_by_neighbours(order, layer, layer + 1, graph.segments[layer])
    improved = True
    while improved:
        improved = False
        for layer in range(1, graph.last):
            items = order[layer]
            for i in range(len(items) - 1):
                before = _crossings(graph, order, (layer - 1, layer))
                items[i], items[i + 1] = items[i + 1], items[i]
                if _crossings(graph, order, (layer - 1, layer)) < before:
                    improved = True
                else:
                    items[i], items[i + 1] = items[i + 1], items[i]


def _sort_by_neighbours(order: Order, layer: int, other: int, segments: Segments) -> None:
    place = {item: i - len(order[other]) / 2 for i, item in enumerate(order[other])}
    own = {item: i - len(order[layer]) / 2 for i, item in enumerate(order[layer])}

    def mean_place(item: Item) -> float:
        pairs = segments if other < layer else [(b, a) for a, b in segments]
        near = [place[there] for there, here in pairs if here == item]
        return sum(near) / len(near) if near else own[item]

    order[layer].sort(key=mean_place)


def _crossings(graph: CellGraph, order: Order, gaps: Sequence[int] | None = None) -> int:
    count = 0
    for gap in range(graph.last) if gaps is None else gaps:
        left = {item: i for i, item in enumerate(order[gap])}
        right = {item: i for i, item in enumerate(order[gap + 1])}
        ends = [(left[a], right[b]) for a, b in graph.segments[gap]]
        count += sum((a - c) * (b - d) < 0 for (a, b), (c, d) in itertools.combinations(ends, 2))
    return count


def _heights(graph: CellGraph, order: Order) -> Heights:
    """Moves each item towards the items that it is joined to, as far as its neighbours in the layer allow."""
    depths = []
    heights: Heights = []
    for layer, items in enumerate(order):
        steps = [_distance(graph, layer, a, b) for a, b in itertools.pairwise(items)]
        depths.append(list(itertools.accumulate(steps, initial=0.0)))
        heights.append({item: depths[-1][-1] / 2 - depth for item, depth in zip(items, depths[-1])})
    forward = list(range(len(order)))
    for layer in [*forward, *reversed(forward)] * 12:
        pulls: dict[Item, list[tuple[float, float]]] = {item: [] for item in order[layer]}
        for a, b in graph.segments[layer - 1] if layer else []:
            pulls[b].append((heights[layer - 1][a], _stiffness(graph, layer - 1, a, b)))
        for a, b in graph.segments[layer] if layer < graph.last else []:
            pulls[a].append((heights[layer + 1][b], _stiffness(graph, layer, a, b)))
        weights = [sum(weight for _, weight in pulls[item]) for item in order[layer]]
        wanted = [
            sum(y * w for y, w in pulls[item]) / weight if weight else heights[layer][item]
            for item, weight in zip(order[layer], weights)
        ]
        # In terms of -(y + depth), the distances are kept if the values do not decrease.
        targets = [-(y + depth) for y, depth in zip(wanted, depths[layer])]
        fitted = _non_decreasing(targets, [weight or 1.0 for weight in weights])
        heights[layer] = {item: -value - depth for item, value, depth in zip(order[layer], fitted, depths[layer])}
    return heights


def _distance(graph: CellGraph, layer: int, upper: Item, lower: Item) -> float:
    """The least distance between the centres of two neighbours in a layer."""
    lane = graph.is_lane(layer, upper) or graph.is_lane(layer, lower)
    boxes = graph.box_height(layer, upper) + graph.box_height(layer, lower)
    return boxes / 2 + (LANE_GAP if lane else BOX_GAP)


def _stiffness(graph: CellGraph, gap: int, a: Item, b: Item) -> float:
    """Weight of a segment: long lines are straighter than short ones."""
    return 4.0 ** (graph.is_lane(gap, a) + graph.is_lane(gap + 1, b))


def _non_decreasing(values: list[float], weights: list[float]) -> list[float]:
    """The non-decreasing sequence nearest to `values` in weighted squares, by pooling adjacent violators."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (b, v, n), (a, w, m) = pools.pop(), pools.pop()
            pools.append(((a * w + b * v) / (w + v), w + v, m + n))
    return [value for value, _, count in pools for _ in range(count)]


def _length(graph: CellGraph, heights: Heights) -> float:
    return sum(
        abs(heights[gap][a] - heights[gap + 1][b]) for gap, segments in enumerate(graph.segments) for a, b in segments
    )
