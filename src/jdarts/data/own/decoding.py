"""Decodes one picture's file, of any common format and kind of pixel, to 8-bit pixels of one size."""

import hashlib
import io
import math
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from jdarts.data.streamed.views import MAX_PIXELS, MAX_RATIO
from jdarts.errors import one_line

#: Formats by Pillow's names.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
_DIGEST_BYTES = 16
#: Pixels of a picture that takes a hundred megabytes or more, in several copies: threads decode such pictures in turn.
_LARGE, _ONE_AT_A_TIME = 1 << 24, threading.Lock()


class Undecodable(Exception):
    """A file that gives no picture; the message says why, in words that follow the file's name."""


class Header(NamedTuple):
    """What a picture's file says before its pixels: width and height as shown, and whether it has grey pixels alone."""

    width: int
    height: int
    grey: bool


def read_header(file: BinaryIO) -> Header:
    """The header of a picture's file, which most formats have before their pixels.

    Raises:
      Undecodable: it is not a picture, or a huge one.
    """
    with _opened(file) as picture:
        width, height = picture.size
        # 5 to 8 are the orientations of pictures that lie on their side.
        if _orientation(picture) in range(5, 9):
            width, height = height, width
        return Header(width, height, picture.mode in _GREY)


def decode(content: bytes, height: int, width: int, channels: int) -> tuple[np.ndarray, bytes]:
    """The pixels of a picture in one size: its largest central part with the ratio of the sides, resized.

    Transparent parts become white; pixels of 16 bits keep their upper 8; an animation gives its first picture.

    Args:
      content: the file.
      height: of the result in pixels.
      width: likewise.
      channels: 1 or 3.

    Returns:
      uint8 `[height, width, channels]`, and a digest that equals that of files with the same picture.

    Raises:
      Undecodable: the file is damaged, or has pixels of a kind without a black and a white.
    """
    from PIL import Image, ImageOps

    with _opened(io.BytesIO(content)) as picture:
        if picture.format in ("JPEG", "MPO"):
            # The decoder itself can halve a picture, which is much faster than resizing. Phones write MPO, a JPEG file
            # with further pictures.
            picture.draft(None, (2 * max(height, width),) * 2)
        plain = _eight_bits(_turned(picture)).convert("L" if channels == 1 else "RGB")
        digest = hashlib.blake2b(f"{plain.size}".encode(), digest_size=_DIGEST_BYTES)
        digest.update(plain.tobytes())
        if plain.size != (width, height):
            plain = ImageOps.fit(plain, (width, height), Image.Resampling.BILINEAR)
        return np.asarray(plain).reshape(height, width, channels), digest.digest()


def upright(content: bytes) -> Any:
    """The whole picture in its own size, as Pillow has it, in red, green and blue; as `decode` in all else.

    Raises:
      Undecodable: as for `decode`, or one side is many times the other.
    """
    with _opened(io.BytesIO(content)) as picture:
        _check_ratio(picture)
        is_plain = (
            picture.format in ("JPEG", "PNG") and picture.mode in ("RGB", "L") and "transparency" not in picture.info
        )
        if is_plain and _orientation(picture) == 1:
            return picture.convert("RGB")
        return _eight_bits(_turned(picture)).convert("RGB")


def check_upright(content: bytes) -> None:
    """Checks that `upright` can read a file; a JPEG file is decoded to an eighth of its size, which is faster.

    Raises:
      Undecodable: as for `upright`.
    """
    with _opened(io.BytesIO(content)) as picture:
        _check_ratio(picture)
        if picture.format in ("JPEG", "MPO"):
            picture.draft(None, (1, 1))
        _eight_bits(picture).load()


def _check_ratio(picture: Any) -> None:
    if max(picture.size) > MAX_RATIO * min(picture.size):
        raise Undecodable(f"has one side that is more than {MAX_RATIO} times the other")


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Any]:
    """Opens a picture; errors within become `Undecodable`. Large pictures wait for each other."""
    from PIL import Image, UnidentifiedImageError

    if not file.seek(0, io.SEEK_END):
        raise Undecodable("is empty")
    file.seek(0)
    try:
        with Image.open(file, formats=FORMATS) as picture:
            # The check comes before decoding: a small file may hold a huge picture.
            if math.prod(picture.size) > MAX_PIXELS:
                raise Undecodable(f"has {math.prod(picture.size):,} pixels, more than {MAX_PIXELS:,}")
            with _ONE_AT_A_TIME if math.prod(picture.size) > _LARGE else nullcontext():
                yield picture
    except (Undecodable, MemoryError):
        raise
    except UnidentifiedImageError:
        raise Undecodable("is damaged or no picture") from None
    except Image.DecompressionBombError:
        raise Undecodable(f"has more than {MAX_PIXELS:,} pixels") from None
    # Pillow reports a damaged file with errors of many types.
    except Exception as error:
        raise Undecodable(f"is damaged ({one_line(error, 100)})") from error


def _orientation(picture: Any) -> int:
    """How a camera was held: 1 for upright. Pillow decodes a whole PNG file to look for it after the pixels.

    Pixels may be whole where the data of the camera is not; such a picture stays as it is.
    """
    if picture.format == "PNG" and "exif" not in picture.info:
        return 1
    try:
        return picture.getexif().get(_ORIENTATION, 1)
    # In order: no header of TIFF; one that is incomplete or of BigTIFF; a text in place of bytes; a warning raised as an error.
    except (SyntaxError, struct.error, TypeError, UserWarning):
        return 1


def _turned(picture: Any) -> Any:
    """The picture as it was held.

    Pillow's `exif_transpose` also writes the data of the camera again, and fails where they are damaged.
    """
    from PIL import Image

    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    turn = turns.get(_orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def _eight_bits(picture: Any) -> Any:
    """The picture with 8-bit grey or colour pixels, without transparency."""
    from PIL import Image

    mode = picture.mode
    if mode == "F":
        raise Undecodable("has floating-point pixels, whose white is unknown: save it with 8 or 16 bits")
    if mode == "I" or mode.startswith("I;"):
        values = np.asarray(picture).astype(np.int64)
        # Of 32 bits; those of other formats have 16, whatever their values.
        is_unclear = mode == "I" and picture.format == "TIFF" and values.max(initial=0) <= np.iinfo(np.uint8).max
        if is_unclear or values.min(initial=0) < 0 or values.max(initial=0) > np.iinfo(np.uint16).max:
            raise Undecodable("has 32-bit pixels, whose white is unknown: save it with 8 or 16 bits")
        return Image.fromarray((values >> 8).astype(np.uint8))
    if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return picture


#: Number of the tag that says how a camera was held.
_ORIENTATION = 0x0112
