"""What a network sees of a large picture: a random part in training, the middle in evaluation.

These run in the processes that decode pictures, as the pictures' sizes differ; what is done to images of one size runs
inside the jitted step (`jdarts.data.augmentation`).
"""

import io
import math
from typing import Any, NamedTuple

import numpy as np

from jdarts.errors import InputError

#: An evaluation image is the middle of a picture whose shorter side has this times its size (256 : 224).
MARGIN = 256 / 224
#: More pixels, and a larger ratio of sides, than pictures of the known sets have.
MOST_PIXELS = 1 << 26
MOST_RATIO = 100


class ColorJitter(NamedTuple):
    """How far colours are changed, each by a factor from `1 − x` to `1 + x`; 0 leaves them.

    Attributes:
      brightness: distance from black.
      contrast: distance from the picture's mean grey.
      saturation: distance of each pixel from its own grey.
      hue: largest turn of the hue, in turns, 0 to 0.5.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0


def training_view(content: bytes, size: int, jitter: ColorJitter, draws: np.random.RandomState) -> np.ndarray:
    """A random part of a picture, of 8 to 100 % of its area and a ratio of sides from 3/4 to 4/3, with changed colours.

    Args:
      content: the picture's file.
      size: side of the result in pixels.
      jitter: how far colours are changed.
      draws: random numbers for this picture.

    Returns:
      uint8 `[size, size, 3]`.

    Raises:
      InputError: the file is not a picture.
    """
    from PIL import Image

    picture = _decoded(content)
    width, height = picture.size
    box = crop_box(width, height, draws)
    part = picture.crop(box).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(_jittered(part, jitter, draws))


def evaluation_view(content: bytes, size: int) -> np.ndarray:
    """The middle of a picture whose shorter side was brought to 8/7 of the size: uint8 `[size, size, 3]`.

    Raises:
      InputError: the file is not a picture.
    """
    from PIL import Image

    picture = _decoded(content)
    width, height = picture.size
    scale = round(MARGIN * size) / min(width, height)
    width, height = (max(size, int(side * scale)) for side in (width, height))
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(picture.crop((left, top, left + size, top + size)))


def crop_box(width: int, height: int, draws: np.random.RandomState) -> tuple[int, int, int, int]:
    """A random part of a picture: left, top, right, bottom.

    Area and logarithm of the ratio of sides are uniform. Where ten draws do not fit, the largest middle part with a
    ratio within the bounds is taken.
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


def _decoded(content: bytes) -> Any:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as picture:
            # Before it is unpacked: a small file may hold a huge picture, or one whose middle part would be huge.
            if math.prod(picture.size) > MOST_PIXELS or max(picture.size) > MOST_RATIO * min(picture.size):
                raise ValueError(picture.size)
            return picture.convert("RGB")
    # Pillow reports a damaged file with errors of many types.
    except Exception as error:
        raise InputError(
            f"a picture cannot be decoded: it is damaged, has more than {MOST_PIXELS:,} pixels, or one side is more than "
            f"{MOST_RATIO} times the other; prepare the set again"
        ) from error


def _jittered(picture: Any, jitter: ColorJitter, draws: np.random.RandomState) -> Any:
    """The four changes, in random order."""
    from PIL import ImageEnhance

    changes = (
        (jitter.brightness, lambda image, factor: ImageEnhance.Brightness(image).enhance(factor)),
        (jitter.contrast, lambda image, factor: ImageEnhance.Contrast(image).enhance(factor)),
        (jitter.saturation, lambda image, factor: ImageEnhance.Color(image).enhance(factor)),
        (jitter.hue, lambda image, factor: _turned(image, factor - 1)),
    )
    order, draw = draws.permutation(len(changes)), draws.uniform(-1, 1, len(changes))
    for place in order:
        strength, change = changes[place]
        if strength:
            picture = change(picture, 1 + strength * draw[place])
    return picture


def _turned(picture: Any, turns: float) -> Any:
    """The hue turned; Pillow counts 256 steps of it."""
    from PIL import Image

    hue, saturation, value = picture.convert("HSV").split()
    moved = (np.asarray(hue).astype(np.int32) + round(256 * turns)) % 256
    return Image.merge("HSV", (Image.fromarray(moved.astype(np.uint8)), saturation, value)).convert("RGB")
