"""Image sets: random-access sequences of arrays, and augmentation as a pure function with a key."""

from jdarts.data.augmentation import (
    Augmentation,
    AugmentationDraws,
    apply_augmentation,
    augment,
    draw_augmentation,
    normalise,
)
from jdarts.data.catalogue import NAMES
from jdarts.data.dataset import ImageDataset, ImageSplit, halves
from jdarts.data.loading import load
from jdarts.data.preparation import prepare

__all__ = [
    "NAMES",
    "Augmentation",
    "AugmentationDraws",
    "ImageDataset",
    "ImageSplit",
    "apply_augmentation",
    "augment",
    "draw_augmentation",
    "halves",
    "load",
    "normalise",
    "prepare",
]
