"""Image sets and text corpora as arrays, and augmentation as a pure function with a key."""

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
from jdarts.data.loading import load, own_path, register_images
from jdarts.data.preparation import prepare
from jdarts.data.text.corpus import TextCorpus
from jdarts.data.text.loading import load_text
from jdarts.data.text.preparation import prepare_text

__all__ = [
    "NAMES",
    "Augmentation",
    "AugmentationDraws",
    "ImageDataset",
    "ImageSplit",
    "TextCorpus",
    "apply_augmentation",
    "augment",
    "draw_augmentation",
    "halves",
    "load",
    "load_text",
    "normalise",
    "own_path",
    "prepare",
    "prepare_text",
    "register_images",
]
