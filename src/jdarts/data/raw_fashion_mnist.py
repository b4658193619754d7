"""Reads Fashion-MNIST's four IDX files."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from jdarts.data.raw import RawSet, RawSplit, check_labels, os_errors_as_input
from jdarts.errors import InputError

SIZE = 28
CLASSES = 10
FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def read_folder(folder: Path) -> RawSet:
    """Reads the four files from a folder.

    Their checksums are not asked for: Debian's package dataset-fashion-mnist holds the same content
    compressed anew. What is inside is checked instead.

    Raises:
      InputError: A file is missing, damaged, or of another form.
    """
    splits = {}
    for split, (image_file, label_file) in FILES.items():
        images = _read_idx(folder / image_file, (SIZE, SIZE))
        labels = _read_idx(folder / label_file, ())
        if len(images) != len(labels):
            raise InputError(
                f"{folder / image_file} holds {len(images):,} images and {label_file} {len(labels):,} "
                "labels; they do not belong together"
            )
        check_labels(labels, CLASSES, str(folder / label_file))
        splits[split] = RawSplit(images=images[..., None], labels={"label": labels})
    return RawSet(splits=splits)


def _read_idx(path: Path, item_shape: tuple[int, ...]) -> np.ndarray:
    """Two zero bytes, 8 (unsigned bytes), the number of axes, their big-endian sizes, the data."""
    with os_errors_as_input(path):
        packed = path.read_bytes()
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be unpacked ({error}); get the file again") from error
    axes = 1 + len(item_shape)
    magic = bytes([0, 0, 8, axes])
    sizes = tuple(np.frombuffer(content[4 : 4 + 4 * axes].ljust(4 * axes, b"\0"), ">u4").tolist())
    if content[:4] != magic or sizes[1:] != item_shape or sizes[0] == 0:
        wanted = " × ".join(["N", *(str(size) for size in item_shape)])
        raise InputError(
            f"{path} is no IDX file of {wanted} bytes: it starts with {content[:4].hex()}, "
            f"sizes {list(sizes)}; it is of another set"
        )
    data = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if data.size != np.prod(sizes):
        raise InputError(
            f"{path} holds {data.size:,} bytes of data, its header says {np.prod(sizes):,}; get the file again"
        )
    return data.reshape(sizes)
