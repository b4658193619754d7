"""Small pictures of the user's own, as files in folders."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """An empty cache of decoded sets, for the tests of a module that imports this."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def pixels(seed, height=8, width=8, channels=3):
    """Noise that differs with the seed: uint8 [H, W, C], or [H, W] for one channel."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def save(path, image, **options):
    """Writes a picture, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def folder_of_classes(folder, counts=None, *, seed=0, height=8, width=8, channels=3):
    """A folder per class, each with pictures of its own."""
    counts = {"cat": 4, "dog": 4} if counts is None else counts
    for label, (name, count) in enumerate(counts.items()):
        for number in range(count):
            image = pixels([seed, label, number], height, width, channels)
            save(folder / name / f"{number}.png", image)
    return folder


def folder_with_splits(folder, *, train=6, test=3, classes=("cat", "dog"), **form):
    """`train/CLASS/…` and `test/CLASS/…`."""
    folder_of_classes(folder / "train", dict.fromkeys(classes, train), **form)
    folder_of_classes(folder / "test", dict.fromkeys(classes, test), seed=1, **form)
    return folder
