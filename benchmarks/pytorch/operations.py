"""The candidate operations of the search network (DARTS, section 3.1.1), one module each."""

from collections.abc import Callable

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]

#: The paper's candidates in the reference implementation's order.
PRIMITIVES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)


class BatchNorm(nn.Module):
    """Batch norm over `[B, C, H, W]` by batch statistics, with running ones kept beside; no weights of its own."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalises."""
        return F.batch_norm(x, self.running_mean, self.running_var, training=True)


class Convolution(nn.Module):
    """ReLU, depthwise convolution where `size` is above 1, pointwise convolution, batch norm."""

    def __init__(
        self, channels_in: int, channels: int, *, size: int = 1, stride: int = 1, dilation: int = 1, owned: bool = False
    ) -> None:
        super().__init__()
        padding = dilation * (size // 2)
        layers = []
        if size > 1:
            layers.append(
                nn.Conv2d(channels_in, channels_in, size, stride, padding, dilation, groups=channels_in, bias=False)
            )
        layers.append(nn.Conv2d(channels_in, channels, 1, bias=False))
        self.convolutions = nn.Sequential(*layers)
        self.norm = BatchNorm(channels)
        self.owned = owned

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C_in, H, W]` to `[B, C, H / stride, W / stride]`; an owned input is overwritten."""
        return self.norm(self.convolutions(F.relu(x, inplace=self.owned)))


class SeparableConvolution(nn.Module):
    """The depthwise and pointwise pair, applied twice; the stride is the first one's."""

    def __init__(self, channels: int, size: int, stride: int) -> None:
        super().__init__()
        self.first = Convolution(channels, channels, size=size, stride=stride)
        self.second = Convolution(channels, channels, size=size, owned=True)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` to `[B, C, H / stride, W / stride]`."""
        return self.second(self.first(x))


class FactorizedReduce(nn.Module):
    """Halves the image: two pointwise convolutions of stride 2, the second one pixel further, side by side."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(channels_in, channels // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(channels_in, channels // 2, 1, 2, bias=False)
        self.norm = BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C_in, H, W]` to `[B, C, H / 2, W / 2]`."""
        x = F.relu(x)
        return self.norm(torch.cat((self.even(x), self.odd(x[:, :, 1:, 1:])), dim=1))


class Pool(nn.Module):
    """A 3×3 pool and its batch norm; the average leaves out the padding."""

    def __init__(self, channels: int, stride: int, function: Callable[..., Tensor], **options: bool) -> None:
        super().__init__()
        self.stride, self.function, self.options = stride, function, options
        self.norm = BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` to `[B, C, H / stride, W / stride]`."""
        return self.norm(self.function(x, 3, self.stride, 1, **self.options))


def candidate(name: str, channels: int, stride: int) -> nn.Module | None:
    """The module of a primitive; None for `none`, which adds nothing to a sum."""
    if name == "none":
        return None
    if name == "max_pool_3x3":
        return Pool(channels, stride, F.max_pool2d)
    if name == "avg_pool_3x3":
        return Pool(channels, stride, F.avg_pool2d, count_include_pad=False)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    kind, size = name[:3], int(name[-1])
    if kind == "sep":
        return SeparableConvolution(channels, size, stride)
    return Convolution(channels, channels, size=size, stride=stride, dilation=2)
