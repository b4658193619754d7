"""The one size that images of a set get."""

import statistics
from collections import Counter
from collections.abc import Mapping

from jdarts.errors import InputError

#: Networks halve images twice, and each halving needs an even size.
MULTIPLE = 4
SMALLEST, LARGEST = 8, 4096
#: Images of one size are kept up to the first; others are resized to the second or less, unless the user gives a size.
_KEPT_UP_TO, _USUAL = 96, 64

#: Width and height, as people give them, to the number of images.
Sizes = Mapping[tuple[int, int], int]


def choose_size(sizes: Sizes, image_size: int | None) -> tuple[tuple[int, int], str]:
    """The height and width of all images of a set, and a sentence that says so.

    Args:
      sizes: number of images by (width, height); not empty.
      image_size: the side that the user wants; None for a default: the size of the images, if they have one that networks can
        halve twice and that is not large, or else a square of about the median of their shorter sides, up to 64.

    Raises:
      InputError: an image size that networks cannot halve twice.
    """
    check_side(image_size)
    found = describe_sizes(sizes)
    if image_size is not None:
        given = (image_size, image_size)
        return given, f"{found}; " + ("as asked" if set(sizes) == {given} else f"resized to {_shown(given)}")
    width, height = next(iter(sizes))
    if len(sizes) == 1 and _fits(width) and _fits(height):
        return (height, width), found
    side = _side(sizes)
    mend = "--image-size chooses another size"
    if len(sizes) == 1:
        why = f"larger than {_KEPT_UP_TO}" if max(width, height) > _KEPT_UP_TO else "not a multiple of 4 from 8 on"
        return (side, side), f"{found}, which is {why}; resized to {_shown((side, side))} ({mend})"
    return (side, side), f"{found}; resized to {_shown((side, side))}, the largest central square of each ({mend})"


def check_side(image_size: int | None) -> None:
    """Checks the side of images that a user gives.

    Raises:
      InputError: networks cannot halve it twice.
    """
    if image_size is None:
        return
    if not SMALLEST <= image_size <= LARGEST or image_size % MULTIPLE:
        raise InputError(
            f"--image-size is {image_size}; give a multiple of {MULTIPLE} from {SMALLEST} to {LARGEST}, as networks halve the "
            "images twice"
        )


def describe_sizes(sizes: Sizes) -> str:
    """The sizes of images in words."""
    if len(sizes) == 1:
        return f"images of {_shown(next(iter(sizes)))}"
    smallest, largest = (pick(sizes, key=lambda size: (size[0] * size[1], size)) for pick in (min, max))
    return f"images of {len(sizes):,} sizes from {_shown(smallest)} to {_shown(largest)}"


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _fits(side: int) -> bool:
    return SMALLEST <= side <= _KEPT_UP_TO and side % MULTIPLE == 0


def _side(sizes: Sizes) -> int:
    """The nearest multiple of 4 to the median of the shorter sides, within the bounds of the default."""
    side = statistics.median_low(min(size) for size in Counter(sizes).elements())
    # Images of one size up to the limit change no more than networks need.
    most = _KEPT_UP_TO if len(sizes) == 1 and max(next(iter(sizes))) <= _KEPT_UP_TO else _USUAL
    return min(most, max(SMALLEST, MULTIPLE * round(side / MULTIPLE)))
