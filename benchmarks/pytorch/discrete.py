"""The network of a genotype, with the names of modules and parameters that the reference implementation gives them."""

from collections.abc import Callable, Sequence

import torch  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]

from .network import STEM_MULTIPLIER, add

#: `(operation, source)` of each edge; each node has the next so many of them.
Edges = Sequence[tuple[str, int]]


def _convolution(
    channels_in: int, channels: int, size: int, stride: int = 1, *, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    padding = dilation * (size // 2)
    return nn.Conv2d(channels_in, channels, size, stride, padding, dilation, groups=groups, bias=False)


class Layers(nn.Module):
    """Layers in a row, below the name `op`."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.op = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the layers."""
        return self.op(x)


class FactorizedReduce(nn.Module):
    """Halves the image: two pointwise convolutions of stride 2, the second one pixel further, side by side."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(channels_in, channels // 2, 1, 2, bias=False)
        self.conv_2 = nn.Conv2d(channels_in, channels // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C_in, H, W]` to `[B, C, H / 2, W / 2]`."""
        x = self.relu(x)
        return self.bn(torch.cat((self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])), dim=1))


def _separable(channels: int, size: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    depthwise = _convolution(channels, channels, size, stride, dilation=dilation, groups=channels)
    return [nn.ReLU(), depthwise, _convolution(channels, channels, 1), nn.BatchNorm2d(channels)]


#: From channels and stride to the module of an operation.
OPERATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "max_pool_3x3": lambda c, s: nn.MaxPool2d(3, s, 1),
    "avg_pool_3x3": lambda c, s: nn.AvgPool2d(3, s, 1, count_include_pad=False),
    "skip_connect": lambda c, s: nn.Identity() if s == 1 else FactorizedReduce(c, c),
    "sep_conv_3x3": lambda c, s: Layers(*_separable(c, 3, s), *_separable(c, 3, 1)),
    "sep_conv_5x5": lambda c, s: Layers(*_separable(c, 5, s), *_separable(c, 5, 1)),
    "dil_conv_3x3": lambda c, s: Layers(*_separable(c, 3, s, 2)),
    "dil_conv_5x5": lambda c, s: Layers(*_separable(c, 5, s, 2)),
}


class DiscreteCell(nn.Module):
    """One cell: each node adds two edges, and the output is some nodes side by side."""

    def __init__(
        self, edges: Edges, concat: Sequence[int], before: int, last: int, channels: int, *, reduces: bool, halves: bool
    ) -> None:
        super().__init__()

        def pointwise(channels_in: int) -> nn.Module:
            return Layers(nn.ReLU(), _convolution(channels_in, channels, 1), nn.BatchNorm2d(channels))

        self.preprocess0 = FactorizedReduce(before, channels) if halves else pointwise(before)
        self.preprocess1 = pointwise(last)
        self._ops = nn.ModuleList(
            OPERATIONS[name](channels, 2 if reduces and source < 2 else 1) for name, source in edges
        )
        self.sources, self.concat = [source for _, source in edges], list(concat)

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        """The output, of the outputs of the two cells before."""
        states = [self.preprocess0(before), self.preprocess1(last)]
        for first in range(0, len(self.sources), 2):
            pair = range(first, first + 2)
            states.append(add(self._ops[edge](states[self.sources[edge]]) for edge in pair))
        return torch.cat([states[node] for node in self.concat], dim=1)


class DiscreteNetwork(nn.Module):
    """Stem, cells and classifier of a pair of cells, without an auxiliary head.

    Args:
      normal: edges and concatenated nodes of the normal cell.
      reduce: the same of the reduction cell.
      stem: `cifar` or `imagenet`.
      channels: channels of the first cells.
      cells: number of cells.
      classes: number of classes.
    """

    def __init__(
        self,
        normal: tuple[Edges, Sequence[int]],
        reduce: tuple[Edges, Sequence[int]],
        *,
        stem: str,
        channels: int,
        cells: int,
        classes: int,
    ) -> None:
        super().__init__()
        halves = stem == "imagenet"
        if halves:
            before = last = channels
            half = channels // 2
            self.stem0 = nn.Sequential(
                _convolution(3, half, 3, 2),
                nn.BatchNorm2d(half),
                nn.ReLU(),
                _convolution(half, channels, 3, 2),
                nn.BatchNorm2d(channels),
            )
            self.stem1 = nn.Sequential(nn.ReLU(), _convolution(channels, channels, 3, 2), nn.BatchNorm2d(channels))
        else:
            before = last = STEM_MULTIPLIER * channels
            self.stem = nn.Sequential(_convolution(3, last, 3), nn.BatchNorm2d(last))
        self.halves_images = halves
        self.cells = nn.ModuleList()
        for index in range(cells):
            reduces = index in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduces else 1
            edges, concat = reduce if reduces else normal
            self.cells.append(DiscreteCell(edges, concat, before, last, channels, reduces=reduces, halves=halves))
            before, last, halves = last, len(concat) * channels, reduces
        self.classifier = nn.Linear(last, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B, classes]` of normalised images `[B, 3, H, W]`."""
        if self.halves_images:
            before = self.stem0(images)
            last = self.stem1(before)
        else:
            before = last = self.stem(images)
        for cell in self.cells:
            before, last = last, cell(before, last)
        return self.classifier(last.mean(dim=(2, 3)))
