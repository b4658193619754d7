"""The stems of networks for images, the same for search networks and discrete ones (paper section 3.1.2, appendix A)."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

import jax

from jdarts.errors import InputError
from jdarts.nets.layers import Convolution, check_image_size
from jdarts.space import CellKind

Stem = Literal["cifar", "imagenet"]
STEMS: tuple[Stem, ...] = ("cifar", "imagenet")

#: The stem of the CIFAR network has this times as many channels as its first cells.
STEM_MULTIPLIER = 3
#: The size of the images over that of the second input of the first cell.
STEM_STRIDE: Mapping[Stem, int] = MappingProxyType({"cifar": 1, "imagenet": 8})
#: Side of the images of the paper's networks.
NATIVE_SIZE: Mapping[Stem, int] = MappingProxyType({"cifar": 32, "imagenet": 224})


class CellInputs(NamedTuple):
    """The inputs of the first cell.

    Attributes:
      older: `[B, H, W, …]`; the `imagenet` stem has halved it once less than the newer one.
      newer: `[B, H', W', …]`.
      reduction_before: whether the older one is twice as large.
    """

    older: jax.Array
    newer: jax.Array
    reduction_before: bool


def stem_states(
    stem: Stem,
    images: jax.Array,
    channels: int,
    *,
    axis_name: str | None,
    train: bool,
    multiplier: int = STEM_MULTIPLIER,
) -> CellInputs:
    """The first layers of a network, as modules of the one that calls this.

    Args:
      stem: `cifar`, one convolution at full size; or `imagenet`, three convolutions that halve the image.
      images: `[B, H, W, channels of the images]`.
      channels: those of the first cells.
      axis_name: a mapped axis for synchronised batch statistics.
      train: whether the statistics of the batch normalise.
      multiplier: the stem `cifar` has this times as many channels.
    """
    if stem == "cifar":
        state = Convolution(multiplier * channels, axis_name=axis_name, name="stem")(images, train=train)
        return CellInputs(state, state, False)
    previous, x = images, images
    for name, features in (("stem0", channels // 2), ("stem1", channels), ("stem2", channels)):
        previous, x = x, x if name == "stem0" else jax.nn.relu(x)
        x = Convolution(features, stride=2, axis_name=axis_name, name=name)(x, train=train)
    return CellInputs(previous, x, True)


def check_stem(stem: Stem, channels: int) -> None:
    """Checks that a stem has these channels.

    Raises:
      InputError: there is no such stem, or it halves an odd number.
    """
    if stem not in STEMS:
        raise InputError(f"stem is {stem!r}; known are {', '.join(STEMS)}")
    if stem == "imagenet" and channels % 2:
        raise InputError(f"channels is {channels}; the ImageNet network halves it, so give an even number")


def check_size_after(stem: Stem, height: int, width: int, kinds: Sequence[CellKind]) -> None:
    """Checks that the reductions behind a stem find even sizes.

    Args:
      stem: the stem.
      height: of the images, in pixels.
      width: likewise.
      kinds: of the cells of the network, in order.

    Raises:
      InputError: an odd size at some reduction.
    """
    check_image_size(height, width, kinds, stem_stride=4 if stem == "imagenet" else 1)
