"""Reads SVHN's cropped digits from its two MATLAB files."""

from pathlib import Path

import numpy as np

from jdarts.data.raw import RawSet, RawSplit, check_labels, os_errors_as_input
from jdarts.errors import InputError

SIZE = 32
CLASSES = 10
FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}


def read_folder(folder: Path) -> RawSet:
    """Reads both files from a folder. The third, with 531,131 further images, is left alone.

    Raises:
      InputError: A file is missing, damaged, or of another form.
    """
    return RawSet(splits={split: _read_mat(folder / file) for split, file in FILES.items()})


def _read_mat(path: Path) -> RawSplit:
    """`X` is uint8 `[H, W, C, N]`; `y` is `[N, 1]` with 1..10, where 10 stands for the digit 0."""
    import scipy.io

    with os_errors_as_input(path):
        opened = path.open("rb")
    with opened:
        try:
            content = scipy.io.loadmat(opened, variable_names=["X", "y"])
        # scipy reports a damaged file with whatever its parser stumbles over.
        except Exception as error:
            raise InputError(f"{path} is no whole MATLAB file ({error}); get the file again") from error
    images, digits = content.get("X"), content.get("y")
    if images is None or digits is None:
        raise InputError(f"{path} has no X and y; it is of another set")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (SIZE, SIZE, 3):
        raise InputError(
            f"{path}: X is {images.dtype} {list(images.shape)}, expected uint8 [32, 32, 3, N]; it is of another set"
        )
    if digits.size != images.shape[3] or not digits.size:
        raise InputError(f"{path} holds {images.shape[3]:,} images and {digits.size:,} labels; get it again")
    digits = digits.reshape(-1).astype(np.int64)
    check_labels(digits - 1, CLASSES, str(path))
    return RawSplit(images=images.transpose(3, 0, 1, 2), labels={"label": digits % 10})
