"""Images of a set as pictures for people."""

import io
from typing import Any

import numpy as np


def as_picture(pixels: np.ndarray) -> Any:
    """An image as Pillow has it, in red, green and blue.

    Args:
      pixels: uint8 `[H, W, C]`. One or two channels show as the first one in grey, more as the first three.
    """
    from PIL import Image

    shown = pixels[..., :3] if pixels.shape[-1] > 2 else pixels[..., 0]
    return Image.fromarray(np.ascontiguousarray(shown)).convert("RGB")


def thumbnail(pixels: np.ndarray, longest: int) -> bytes:
    """An image as a small PNG file.

    Args:
      pixels: as for `as_picture`.
      longest: most pixels of a side; a larger image is made smaller.
    """
    picture = as_picture(pixels)
    picture.thumbnail((longest, longest))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
