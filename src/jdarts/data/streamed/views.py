"""The images that a network gets of a large picture: a random crop in training, the centre crop in evaluation.

The pictures differ in size, so these functions run in the processes that decode them. Augmentation of images of one size
runs inside the jitted step (`jdarts.data.augmentation`).
"""

import io
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jdarts.errors import InputError

#: The shorter side of a resized picture, as a multiple of its centre crop (256 : 224).
MARGIN = 256 / 224
#: Limits that no picture of the known sets reaches: pixels, and the ratio of the sides.
MAX_PIXELS = 1 << 26
MAX_RATIO = 100
#: From a picture's file to the picture of red, green and blue, as Pillow has it.
Decode = Callable[[bytes], Any]


class ColorJitter(NamedTuple):
    """Strengths of colour changes: each is a random factor from `1 − x` to `1 + x`; 0 switches it off.

    Attributes:
      brightness: distance from black.
      contrast: distance from the picture's mean grey.
      saturation: distance of each pixel from its own grey.
      hue: largest rotation of the hue, in turns, 0 to 0.5.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0


def decoded(content: bytes) -> Any:
    """The picture of a JPEG or PNG file, as Pillow has it, in red, green and blue.

    Raises:
      InputError: the file is not a picture.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as picture:
            # The check comes before decoding: a small file may hold a huge picture, or become one when it is resized.
            if math.prod(picture.size) > MAX_PIXELS or max(picture.size) > MAX_RATIO * min(picture.size):
                raise ValueError(picture.size)
            return picture.convert("RGB")
    # Pillow reports a damaged file with errors of many types.
    except Exception as error:
        raise InputError(
            f"a picture cannot be decoded: it is damaged, has more than {MAX_PIXELS:,} pixels, or one side is more than "
            f"{MAX_RATIO} times the other; replace it, or prepare the set again"
        ) from error


def training_view(
    content: bytes,
    size: int,
    jitter: ColorJitter,
    draws: np.random.RandomState,
    decode: Decode = decoded,
) -> np.ndarray:
    """A random crop of a picture with changed colours: 8 to 100 % of its area, ratio of the sides from 3/4 to 4/3.

    Args:
      content: the picture's file.
      size: side of the result in pixels.
      jitter: strengths of colour changes.
      draws: random numbers for this picture.
      decode: decodes the file.

    Returns:
      uint8 `[size, size, 3]`.

    Raises:
      InputError: the file is not a picture.
    """
    from PIL import Image

    picture = decode(content)
    width, height = picture.size
    box = crop_box(width, height, draws)
    part = picture.crop(box).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(_jitter(part, jitter, draws))


def evaluation_view(content: bytes, size: int, decode: Decode = decoded) -> np.ndarray:
    """The centre crop of a picture whose shorter side is resized to 8/7 of the size: uint8 `[size, size, 3]`.

    Args:
      content: the picture's file.
      size: side of the result in pixels.
      decode: decodes the file.

    Raises:
      InputError: the file is not a picture.
    """
    from PIL import Image

    picture = decode(content)
    width, height = picture.size
    scale = round(MARGIN * size) / min(width, height)
    width, height = (max(size, int(side * scale)) for side in (width, height))
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(picture.crop((left, top, left + size, top + size)))


def crop_box(width: int, height: int, draws: np.random.RandomState) -> tuple[int, int, int, int]:
    """The box of a random crop: left, top, right, bottom.

    The area and the logarithm of the ratio of the sides are uniform. If ten draws do not fit into the picture, the crop is
    the largest central one with a ratio within the bounds.
    """
    least, most = 3 / 4, 4 / 3
    for _ in range(10):
        area = width * height * draws.uniform(0.08, 1.0)
        ratio = math.exp(draws.uniform(math.log(least), math.log(most)))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = int(draws.randint(width - across + 1)), int(draws.randint(height - down + 1))
            return left, top, left + across, top + down
    across, down = min(width, round(height * most)), min(height, round(width / least))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def _jitter(picture: Any, jitter: ColorJitter, draws: np.random.RandomState) -> Any:
    """Applies the four colour changes in random order."""
    from PIL import ImageEnhance

    changes = (
        (jitter.brightness, lambda image, factor: ImageEnhance.Brightness(image).enhance(factor)),
        (jitter.contrast, lambda image, factor: ImageEnhance.Contrast(image).enhance(factor)),
        (jitter.saturation, lambda image, factor: ImageEnhance.Color(image).enhance(factor)),
        (jitter.hue, lambda image, factor: _rotate_hue(image, factor - 1)),
    )
    order, draw = draws.permutation(len(changes)), draws.uniform(-1, 1, len(changes))
    for index in order:
        strength, change = changes[index]
        if strength:
            picture = change(picture, 1 + strength * draw[index])
    return picture


def _rotate_hue(picture: Any, turns: float) -> Any:
    """Rotates the hue, which Pillow divides into 256 steps."""
    from PIL import Image

    hue, saturation, value = picture.convert("HSV").split()
    rotated = (np.asarray(hue).astype(np.int32) + round(256 * turns)) % 256
    return Image.merge("HSV", (Image.fromarray(rotated.astype(np.uint8)), saturation, value)).convert("RGB")
