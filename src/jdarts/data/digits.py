"""The handwritten digits inside scikit-learn: real images that need no download."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from jdarts.data.augmentation import Augmentation
from jdarts.data.dataset import ImageDataset, ImageSplit
from jdarts.data.splitting import stable_permutation

TRAIN_SIZE = 1437
SHUFFLE_SEED = 0
# An 8×8 digit fills its image, so a shift of more than one pixel would cut it. A mirrored digit is not a digit.
AUGMENTATION = Augmentation(padding=1)


def load_digits() -> ImageDataset:
    """1,797 digits of 8×8 grey pixels (UCI optical recognition set): 1,437 for training, 360 for the test.

    The values 0..16 of the file become 0..255. The file is sorted by writer, so the digits are shuffled, always in the
    same way.
    """
    pixels, labels = _pixels_and_labels()
    images = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = labels.astype(np.int32)
    order = stable_permutation(len(labels), SHUFFLE_SEED)
    train, test = order[:TRAIN_SIZE], order[TRAIN_SIZE:]
    return ImageDataset(
        name="digits",
        train=ImageSplit(images[train], labels[train]),
        test=ImageSplit(images[test], labels[test]),
        class_names=tuple(str(digit) for digit in range(10)),
        mean=(float(images[train].mean() / 255),),
        std=(float(images[train].std() / 255),),
        augmentation=AUGMENTATION,
        shuffled=True,
    )


def _pixels_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """The rows of scikit-learn's file, read without the second that its import takes where the file is in its place."""
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            with gzip.open(file, "rt") as lines:
                rows = np.loadtxt(lines, delimiter=",")
            return rows[:, :-1], rows[:, -1]
    from sklearn.datasets import load_digits as rows_by_import

    pixels, labels = map(np.asarray, rows_by_import(return_X_y=True))
    return pixels, labels
