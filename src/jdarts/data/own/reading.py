"""Reads all pictures of a source into memory, by threads: decoding runs outside Python's lock."""

import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from jdarts.data.dataset import ImageSplit
from jdarts.data.own.decoded import Decoded, DecodedSplit
from jdarts.data.own.decoding import Header, Undecodable, check_upright, decode, read_header
from jdarts.data.own.pictures import TRAIN, Picture, Pictures, Problem, listed
from jdarts.data.own.sizes import Sizes, choose_size
from jdarts.errors import InputError
from jdarts.files.machine_memory import available_bytes

Result = TypeVar("Result")

#: Pictures that a thread takes at once.
_CHUNK = 64
#: Share of the free memory that a set may take.
_SHARE = 0.4


def read_pictures(pictures: Pictures, image_size: int | None) -> Decoded:
    """Decodes the pictures of a source. Those that cannot be decoded are left out, and named.

    Args:
      pictures: the pictures.
      image_size: side of the images; None for a default, as `choose_size` says.

    Raises:
      InputError: no picture of a class can be decoded.
      TooLargeError: all together do not fit into memory.
    """
    headers, files, problems = readable(pictures)
    sizes: Sizes = Counter((header.width, header.height) for header in headers)
    channels = 1 if all(header.grey for header in headers) else 3
    (height, width), note = choose_size(sizes, image_size)
    check_fits(len(headers), height, width, channels)
    with _pool() as pool:
        splits = {
            split: _decode_split(pool, members, (height, width, channels), problems) for split, members in files.items()
        }
    check_classes(pictures.class_names, splits[TRAIN].images.labels, problems)
    notes = [f"{note}, {_colours(headers, channels)}"]
    return Decoded(pictures.kind, splits, pictures.class_names, sizes, tuple(problems), tuple(notes))


def readable(pictures: Pictures) -> tuple[list[Header], dict[str, list[Picture]], list[Problem]]:
    """The headers of all files that say that they are pictures, these files by split, and what is left out.

    Raises:
      InputError: no file is a picture.
    """
    headers: list[Header] = []
    files: dict[str, list[Picture]] = {}
    problems = list(pictures.problems)
    with _pool() as pool:
        for split, members in pictures.splits.items():
            results = _each(pool, members, lambda place, picture: _header(picture))
            headers += [each for each in results if isinstance(each, Header)]
            problems += [each for each in results if isinstance(each, Problem)]
            files[split] = [picture for picture, each in zip(members, results) if isinstance(each, Header)]
    if not headers:
        raise InputError(f"no picture can be read: {listed(map(str, problems), 3)}")
    return headers, {split: members for split, members in files.items() if members or split == TRAIN}, problems


def unreadable(pictures: Sequence[Picture]) -> list[Problem]:
    """Those that cannot be decoded whole, of pictures that have a header."""
    with _pool() as pool:
        results = _each(pool, pictures, lambda place, picture: check_upright(picture.read()))
    return [each for each in results if isinstance(each, Problem)]


def _header(picture: Picture) -> Header:
    with io.BytesIO(picture.read()) if picture.open is None else picture.open() as file:
        return read_header(file)


def memory_for_images() -> int | None:
    """Bytes that the images of a set may take beside the network; None if the free memory is unknown."""
    available = available_bytes()
    return None if available is None else int(_SHARE * available)


class TooLargeError(InputError):
    """Images that do not fit into memory beside the network.

    Attributes:
      side: the shorter side that they would have there, in pixels.
      sizes: how much they take, and how much there is, in words.
    """

    def __init__(self, sizes: str, side: int, mend: str) -> None:
        super().__init__(f"{sizes}; {mend}")
        self.sizes, self.side = sizes, side


def check_fits(count: int, height: int, width: int, channels: int) -> None:
    """Checks that images fit into memory beside the network.

    Raises:
      TooLargeError: they do not.
    """
    needed, most = count * height * width * channels, memory_for_images()
    if most is not None and needed > most:
        raise TooLargeError(
            f"{count:,} images of {width}×{height} take {needed / 1e9:,.1f} GB, and {_SHARE:.0%} of the free memory are "
            f"{most / 1e9:,.1f} GB",
            min(height, width),
            "give a smaller --image-size or fewer images, or a folder of pictures: a search or a training can read it picture "
            "by picture",
        )


def _decode_split(
    pool: ThreadPoolExecutor, pictures: Sequence[Picture], shape: tuple[int, int, int], problems: list[Problem]
) -> DecodedSplit:
    """Decodes the pictures of a split; extends the list of problems in the order of the pictures."""
    images = np.empty((len(pictures), *shape), np.uint8)
    digests = np.empty(len(pictures), "S16")

    def work(place: int, picture: Picture) -> None:
        images[place], digests[place] = decode(picture.read(), *shape)

    results = _each(pool, pictures, work)
    problems += [each for each in results if isinstance(each, Problem)]
    rows = [row for row, each in enumerate(results) if each is None]
    if not rows:
        raise InputError(f"no picture of a split can be read: {listed(map(str, problems), 3)}")
    labels = np.array([pictures[row].label for row in rows], np.int32)
    whole = images if len(rows) == len(images) else images[rows]
    return DecodedSplit(ImageSplit(whole, labels), digests[rows], [pictures[row].name for row in rows])


def _each(
    pool: ThreadPoolExecutor, pictures: Sequence[Picture], work: Callable[[int, Picture], Result]
) -> list[Result | Problem]:
    """The result of each place and picture, or why there is none; in chunks, since a task costs more than a small picture."""

    def result(place: int) -> Result | Problem:
        picture = pictures[place]
        try:
            return work(place, picture)
        except Undecodable as error:
            return Problem(picture.name, str(error))
        except OSError as error:
            return Problem(picture.name, f"cannot be read ({error.strerror or error})")
        except InputError as error:
            reason = error.__cause__.strerror if isinstance(error.__cause__, OSError) else error
            return Problem(picture.name, f"cannot be read ({reason})")

    def chunk(start: int) -> list[Result | Problem]:
        return [result(place) for place in range(start, min(start + _CHUNK, len(pictures)))]

    return [each for part in pool.map(chunk, range(0, len(pictures), _CHUNK)) for each in part]


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that decode; they end soon after an error or a signal, and nobody sees Pillow's warnings of odd files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1), thread_name_prefix="jdarts pictures")
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def check_classes(class_names: Sequence[str], labels: np.ndarray, problems: Sequence[Problem]) -> None:
    """Checks that each class has training pictures that can be read.

    Args:
      class_names: one name per label.
      labels: of the training pictures that can be read, int32 `[N]`.
      problems: what is left out.

    Raises:
      InputError: a class has none.
    """
    found = np.bincount(labels, minlength=len(class_names))
    missing = [name for name, count in zip(class_names, found) if not count]
    if missing:
        raise InputError(
            f"no training image of {listed(missing)} can be read ({listed(map(str, problems), 3)}); mend the files, or remove "
            "the class"
        )


def _colours(headers: Sequence[Header], channels: int) -> str:
    grey = sum(header.grey for header in headers)
    if channels == 1:
        return "grey"
    return f"{grey:,} grey and {len(headers) - grey:,} in colour" if grey else "in colour"
