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
MIDDLE_FEATURES, LAST_FEATURES = 128, 768


class AuxiliaryHead(nn.Module):
    """ReLU, mean over 5×5 windows, 1×1 convolution, 2×2 convolution, linear layer.

    Attributes:
      classes: number of classes.
      stride: of the windows: 3 in the CIFAR network, 2 in the ImageNet network, so that 2×2 windows are left.
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
          InputError: an image from which the windows do not leave 2×2.
        """
        sizes = readable_sizes(self.stride)
        height, width = x.shape[1:3]
        if height not in sizes or width not in sizes:
            raise InputError(
                f"the auxiliary head finds {self.place} {height}×{width} large, and needs {sizes[0]}×{sizes[0]} to "
                f"{sizes[-1]}×{sizes[-1]}; give images of another size, or auxiliary=False"
            )
        window, strides = (1, WINDOW, WINDOW, 1), (1, self.stride, self.stride, 1)
        x = lax.reduce_window(jax.nn.relu(x), np.zeros((), x.dtype), lax.add, window, strides, "VALID") / WINDOW**2
        first = Convolution(MIDDLE_FEATURES, size=1, padding=0, axis_name=self.axis_name, name="first")
        x = jax.nn.relu(first(x, train=train))
        last = Convolution(
            LAST_FEATURES, size=POOLED, padding=0, normalised=self.last_norm, axis_name=self.axis_name, name="last"
        )
        features = jax.nn.relu(last(x, train=train)).reshape(x.shape[0], -1).astype(wide_type(x.dtype))
        return classifier(self.classes, features, name="classifier")(features)


def readable_sizes(stride: int) -> range:
    """The sizes that windows of this stride leave 2×2 of."""
    return range(WINDOW + (POOLED - 1) * stride, WINDOW + POOLED * stride)
