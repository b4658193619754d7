"""Reads SVHN's cropped digits from its two MATLAB files."""

from pathlib import Path

import numpy as np

from jdarts.data.originals.images import RawSet, RawSplit, check_labels
from jdarts.data.originals.matlab import read_arrays
from jdarts.errors import InputError

SIZE = 32
CLASSES = 10
FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
#: Images of the official files; no file may have more.
COUNTS = {"train": 73_257, "test": 26_032}


def read_folder(folder: Path) -> RawSet:
    """Reads both files from a folder. The third official file, with 531,131 more images, is not used.

    Raises:
      InputError: A file is missing, damaged, or in another format.
    """
    return RawSet(splits={split: _read_mat(folder / file, COUNTS[split]) for split, file in FILES.items()})


def _read_mat(path: Path, max_images: int) -> RawSplit:
    """`X` is uint8 `[H, W, C, N]`; `y` is `[N, 1]` with 1..10, where 10 is the digit 0."""
    content = read_arrays(path, {"X": max_images * SIZE * SIZE * 3, "y": max_images})
    images, digits = content.get("X"), content.get("y")
    if images is None or digits is None:
        raise InputError(f"{path} has no X and y; it is of another set: get the file again")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (SIZE, SIZE, 3):
        raise InputError(
            f"{path}: X is {images.dtype} {list(images.shape)}, expected uint8 [32, 32, 3, N]; "
            "it is of another set: get the file again"
        )
    if digits.size != images.shape[3] or not digits.size:
        raise InputError(f"{path} holds {images.shape[3]:,} images and {digits.size:,} labels; get the file again")
    digits = digits.reshape(-1)
    check_labels(digits, range(1, CLASSES + 1), str(path))
    return RawSplit(images=images.transpose(3, 0, 1, 2), labels={"label": digits.astype(np.int64) % CLASSES})
