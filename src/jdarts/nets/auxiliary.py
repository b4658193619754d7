"""The auxiliary head: a second classifier at two thirds of the depth, for training alone (Szegedy et al., 2015)."""

import flax.linen as nn
import jax
import numpy as np
from jax import lax

from jdarts.errors import InputError
from jdarts.nets.layers import Convolution, classifier
from jdarts.ops.precision import wide_type

WINDOW = 5
POOLED = 2
#: Smaller images leave windows of single pixels.
SMALLEST = 4
MIDDLE_FEATURES, LAST_FEATURES = 128, 768


class AuxiliaryHead(nn.Module):
    """ReLU, mean over 2×2 windows, 1×1 convolution, 2×2 convolution, linear layer.

    The windows are `windows` of the image's height and width, so that the weights fit images of any size.

    Attributes:
      classes: number of classes.
      stride: of the windows, where 5×5 windows of it leave 2×2: 3 in the CIFAR network, 2 in the ImageNet network.
      last_norm: whether the 2×2 convolution has a batch norm. The ImageNet network of the paper's experiments has none.
      place: the images and the cell, for the error message.
      axis_name: a mapped axis for synchronised batch statistics.
    """

    classes: int
    stride: int
    last_norm: bool
    place: str
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """`[B, H, W, C]` to logits `[B, classes]`.

        Raises:
          InputError: an image too small for windows.
        """
        height, width = x.shape[1:3]
        if not (head_reads(height) and head_reads(width)):
            raise InputError(
                f"the auxiliary head finds {self.place} {height}×{width} large, and needs {SMALLEST}×{SMALLEST} or more; give "
                "larger images, or leave the head out by --no-auxiliary"
            )
        (rows, down), (columns, right) = windows(height, self.stride), windows(width, self.stride)
        window, strides = (1, rows, columns, 1), (1, down, right, 1)
        x = lax.reduce_window(jax.nn.relu(x), np.zeros((), x.dtype), lax.add, window, strides, "VALID") / (
            rows * columns
        )
        first = Convolution(MIDDLE_FEATURES, size=1, padding=0, axis_name=self.axis_name, name="first")
        x = jax.nn.relu(first(x, train=train))
        last = Convolution(
            LAST_FEATURES, size=POOLED, padding=0, normalised=self.last_norm, axis_name=self.axis_name, name="last"
        )
        features = jax.nn.relu(last(x, train=train)).reshape(x.shape[0], -1).astype(wide_type(x.dtype))
        return classifier(self.classes, features, name="classifier")(features)


def head_reads(size: int) -> bool:
    """Whether an auxiliary head reads images of this height or width."""
    return size >= SMALLEST


def windows(size: int, stride: int) -> tuple[int, int]:
    """The size and the stride of the windows, two of which an auxiliary head takes along each side of its images.

    Args:
      size: height or width of the images.
      stride: of windows of 5 pixels, which are taken where two of them fit and no third.

    Returns:
      Size and stride; for other images those of two windows that overlap by a quarter of the image, as two of 5 pixels do
      in 8.
    """
    if WINDOW + (POOLED - 1) * stride <= size < WINDOW + POOLED * stride:
        return WINDOW, stride
    window = -(-WINDOW * size // 8)
    return window, size - window
