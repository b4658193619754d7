"""Reads Fashion-MNIST's four IDX files."""

import math
import zlib
from pathlib import Path

import numpy as np

from jdarts.data.originals.images import RawSet, RawSplit, check_labels, os_errors_as_input
from jdarts.data.originals.unpacking import GZIP, Unpacked
from jdarts.errors import InputError

SIZE = 28
CLASSES = 10
FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
#: Images of the official files; no file may have more.
COUNTS = {"train": 60_000, "test": 10_000}


def read_folder(folder: Path) -> RawSet:
    """Reads the four files from a folder.

    The content is checked, not the compressed files: Debian's package dataset-fashion-mnist has compressed it again.

    Raises:
      InputError: A file is missing, damaged, or in another format.
    """
    splits = {}
    for split, (image_file, label_file) in FILES.items():
        images = _read_idx(folder / image_file, (SIZE, SIZE), COUNTS[split])
        labels = _read_idx(folder / label_file, (), COUNTS[split])
        if len(images) != len(labels):
            raise InputError(
                f"{folder / image_file} holds {len(images):,} images and {label_file} {len(labels):,} "
                "labels; they do not belong together: get both again"
            )
        check_labels(labels, range(CLASSES), str(folder / label_file))
        splits[split] = RawSplit(images=images[..., None], labels={"label": labels})
    return RawSet(splits=splits)


def _read_idx(path: Path, item_shape: tuple[int, ...], max_items: int) -> np.ndarray:
    """Two zero bytes, 8 (unsigned bytes), the number of axes, their big-endian sizes, the data of at max_items `max_items`."""
    axes = 1 + len(item_shape)
    header_bytes = 4 + 4 * axes
    item_bytes = math.prod(item_shape)
    with os_errors_as_input(path), path.open("rb") as file:
        unpacked = Unpacked(file, GZIP, max_bytes=header_bytes + max_items * item_bytes)
        try:
            header = unpacked.read(header_bytes)
            sizes = _checked_sizes(path, header, item_shape, max_items)
            content = unpacked.read(sizes[0] * item_bytes)
            if len(content) < sizes[0] * item_bytes:
                raise EOFError(f"it holds {len(content):,} bytes of data, its header says {math.prod(sizes):,}")
            unpacked.check_end()
        except (EOFError, zlib.error) as error:
            raise InputError(f"{path} cannot be unpacked ({error}); get the file again") from error
    return np.frombuffer(content, np.uint8).reshape(sizes)


def _checked_sizes(path: Path, header: bytes, item_shape: tuple[int, ...], max_items: int) -> tuple[int, ...]:
    axes = 1 + len(item_shape)
    sizes = tuple(np.frombuffer(header[4:].ljust(4 * axes, b"\0"), ">u4").tolist())
    if header[:4] != bytes([0, 0, 8, axes]) or sizes[1:] != item_shape or not 0 < sizes[0] <= max_items:
        shape = " × ".join(["N", *(str(size) for size in item_shape)])
        raise InputError(
            f"{path} is not an IDX file of {shape} bytes with N up to {max_items:,}: it starts with {header[:4].hex()}, "
            f"sizes {list(sizes)}; it is of another set: get the file again"
        )
    return sizes
