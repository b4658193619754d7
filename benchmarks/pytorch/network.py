"""The search network of DARTS (sections 2.1, 2.2 and 3.1.1), edge by edge."""

import functools
from collections.abc import Iterable

import torch  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]

from .operations import PRIMITIVES, Convolution, FactorizedReduce, candidate

STEM_MULTIPLIER = 3


def num_edges(nodes: int) -> int:
    """Edges of a cell with so many nodes: each reads two inputs and all earlier nodes."""
    return nodes * (nodes + 3) // 2


def add(terms: Iterable[Tensor]) -> Tensor:
    """The sum of one or more arrays, without the pass that `sum` spends on its 0."""
    return functools.reduce(torch.add, terms)


class MixedOperation(nn.Module):
    """All candidates of an edge, summed by their mixture weights (equation 2)."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.columns = []
        self.candidates = nn.ModuleList()
        for column, name in enumerate(PRIMITIVES):
            module = candidate(name, channels, stride)
            if module is not None:
                self.columns.append(column)
                self.candidates.append(module)

    def forward(self, x: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
        """`[B, C, H, W]` to `[B, C, H / stride, W / stride]`; `weights` are one scalar per primitive."""
        return add(candidate(x) * weights[column] for column, candidate in zip(self.columns, self.candidates))


class Cell(nn.Module):
    """One cell; its output is all nodes side by side."""

    def __init__(
        self, nodes: int, before: int, last: int, channels: int, *, reduction: bool, after_reduction: bool
    ) -> None:
        super().__init__()
        self.preprocess0 = FactorizedReduce(before, channels) if after_reduction else Convolution(before, channels)
        self.preprocess1 = Convolution(last, channels)
        self.edges = nn.ModuleList(
            MixedOperation(channels, 2 if reduction and source < 2 else 1)
            for node in range(nodes)
            for source in range(2 + node)
        )
        self.nodes = nodes

    def forward(self, before: Tensor, last: Tensor, weights: tuple[tuple[Tensor, ...], ...]) -> Tensor:
        """The outputs of the two cells before, and one tuple of scalars per edge."""
        states = [self.preprocess0(before), self.preprocess1(last)]
        edges = zip(self.edges, weights)
        for _ in range(self.nodes):
            states.append(add(edge(state, mixture) for state, (edge, mixture) in zip(tuple(states), edges)))
        return torch.cat(states[2:], dim=1)


class SearchNetwork(nn.Module):
    """Stem, cells and classifier. Reduction cells lie at a third and at two thirds of the depth."""

    def __init__(self, channels: int = 16, cells: int = 8, nodes: int = 4, classes: int = 10) -> None:
        super().__init__()
        before = last = STEM_MULTIPLIER * channels
        self.stem = nn.Sequential(nn.Conv2d(3, last, 3, padding=1, bias=False), nn.BatchNorm2d(last))
        self.cells = nn.ModuleList()
        self.kinds = []
        after_reduction = False
        for index in range(cells):
            reduction = index in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduction else 1
            self.cells.append(Cell(nodes, before, last, channels, reduction=reduction, after_reduction=after_reduction))
            self.kinds.append(int(reduction))
            before, last, after_reduction = last, nodes * channels, reduction
        self.classifier = nn.Linear(last, classes)

    def forward(self, images: Tensor, alphas: tuple[Tensor, Tensor]) -> Tensor:
        """Logits `[B, classes]` of images `[B, 3, H, W]`; alphas `[E, 8]` of the normal and the reduction cell."""
        weights = [tuple(edge.unbind() for edge in alpha.softmax(dim=-1).unbind()) for alpha in alphas]
        before = last = self.stem(images)
        for cell, kind in zip(self.cells, self.kinds):
            before, last = last, cell(before, last, weights[kind])
        return self.classifier(last.mean(dim=(2, 3)))
