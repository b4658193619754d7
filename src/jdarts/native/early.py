"""Building native libraries while a process does something else."""

from typing import Any

import numpy as np

from jdarts.native import gpu
from jdarts.native.libraries import IMAGES, LEAVES, RECURRENT, begin_building, is_disabled
from jdarts.xla.platform import target_platform

#: The type of weights.
_WEIGHTS = np.float32


def build_for_images(precision: Any) -> None:
    """Starts building, in the background, the libraries that programs of networks for images need.

    Args:
      precision: the type of feature maps; that of weights is float32.
    """
    _begin((IMAGES, precision), (LEAVES, _WEIGHTS))


def build_for_text() -> None:
    """Starts building, in the background, the libraries that programs of networks for text need."""
    _begin((RECURRENT, _WEIGHTS), (LEAVES, _WEIGHTS))


def _begin(*libraries: tuple[str, Any]) -> None:
    platform = target_platform()
    if is_disabled():
        return
    if platform == "cpu":
        for name, dtype in libraries:
            begin_building(name, dtype)
    elif platform == "gpu":
        # One library has the functions for images and for leaves.
        gpu.begin_building(*{np.dtype(dtype) for _, dtype in libraries})
