"""The auxiliary head: a second classifier at two thirds of the depth, used only in training (Szegedy et al., 2015)."""

import flax.linen as nn
import jax
import numpy as np
from jax import lax

from jdarts.errors import InputError
from jdarts.nets.layers import Convolution, classifier
from jdarts.ops.precision import wide_type

WINDOW = 5
POOLED = 2
#: In smaller images the windows would be single pixels.
SMALLEST = 4
MIDDLE_FEATURES, LAST_FEATURES = 128, 768


class AuxiliaryHead(nn.Module):
    """ReLU, mean over 2×2 windows, 1×1 convolution, 2×2 convolution, linear layer.

    The windows are `windows` of the image's height and width, so that the weights fit images of any size.

    Attributes:
      classes: number of classes.
      stride: stride of the windows if 5×5 windows give 2×2: 3 in the CIFAR network, 2 in the ImageNet network.
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
          InputError: the image is too small for the windows.
        """
        height, width = x.shape[1:3]
        if not (head_reads(height) and head_reads(width)):
            raise InputError(
                f"the auxiliary head needs states of {SMALLEST}×{SMALLEST} or more, and {self.place} are {height}×{width} there; "
                "give larger images, or leave the head out by --no-auxiliary"
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
    """Whether an auxiliary head can read states of this height or width."""
    return size >= SMALLEST


def windows(size: int, stride: int) -> tuple[int, int]:
    """The size and the stride of the auxiliary head's windows, of which two cover each side of its input.

    Args:
      size: height or width of the input.
      stride: stride of windows of 5 pixels, which are used if exactly two of them fit.

    Returns:
      Size and stride. For other inputs the two windows overlap by a quarter of the side, as two of 5 pixels do in 8.
    """
    if WINDOW + (POOLED - 1) * stride <= size < WINDOW + POOLED * stride:
        return WINDOW, stride
    window = -(-WINDOW * size // 8)
    return window, size - window
