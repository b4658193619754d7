"""How the reference implementation (quark0/darts) names the layers of an operation, and how PyTorch lays out their arrays."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
    """The layout of an array in PyTorch.

    Attributes:
      shape: from its shape in jdarts to that in PyTorch.
      convert: from the array of PyTorch to that of jdarts.
      restore: from the array of jdarts to that of PyTorch.
    """

    shape: Callable[[tuple[int, ...]], tuple[int, ...]]
    convert: Callable[[np.ndarray], np.ndarray]
    restore: Callable[[np.ndarray], np.ndarray]


CONVOLUTION = Layout(
    lambda s: (s[3], s[2], s[0], s[1]), lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1)
)
DEPTHWISE = Layout(
    lambda s: (s[2], 1, s[0], s[1]), lambda a: a[:, 0].transpose(1, 2, 0), lambda a: a.transpose(2, 0, 1)[:, None]
)
POINTWISE = Layout(lambda s: (s[1], s[0], 1, 1), lambda a: a[:, :, 0, 0].T, lambda a: a.T[:, :, None, None])
ACROSS = Layout(
    lambda s: (s[2], s[1], 1, s[0]), lambda a: a[:, :, 0].transpose(2, 1, 0), lambda a: a.transpose(2, 1, 0)[:, :, None]
)
DOWN = Layout(
    lambda s: (s[2], s[1], s[0], 1),
    lambda a: a[:, :, :, 0].transpose(2, 1, 0),
    lambda a: a.transpose(2, 1, 0)[..., None],
)
LINEAR = Layout(lambda s: (s[1], s[0]), lambda a: a.T, lambda a: a.T)
VECTOR = Layout(lambda s: s, lambda a: a, lambda a: a)


class ReferenceLayers(NamedTuple):
    """The layers of an operation, by their names relative to it.

    Attributes:
      weights: layer and layout of each weight in jdarts.
      last: the last batch norm.
      middle: the first batch norm of two or three.
    """

    weights: Mapping[str, tuple[str, Layout]]
    last: str
    middle: str | None = None
