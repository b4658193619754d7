"""The images of the studies: CIFAR-10 where it is prepared, handwritten digits elsewhere; and smaller ones of a set."""

import dataclasses
import os
from pathlib import Path

import numpy as np

from jdarts import data
from jdarts.data import ImageDataset, ImageSplit
from jdarts.data.catalogue import CATALOGUE
from jdarts.data.prepared import data_directory, find_prepared

#: The set of a study where CIFAR-10 is not prepared.
FALLBACK = "digits"


def choose(name: str | None, data_dir: str | os.PathLike[str] | None) -> tuple[str, str]:
    """The name of the image set, and a remark for people.

    Args:
      name: as given; None for CIFAR-10, or digits where it is not prepared.
      data_dir: folder of prepared images.

    Raises:
      InputError: the description of the prepared CIFAR-10 cannot be read.
    """
    if name is not None:
        return name, ""
    if find_prepared("cifar10", CATALOGUE["cifar10"], data_dir) is not None:
        return "cifar10", ""
    where = data_directory(data_dir)
    return FALLBACK, (
        f"CIFAR-10 is not prepared in {where}, so that the studies run on {FALLBACK}; prepare it with `jdarts data prepare "
        "cifar10`, or name its folder with --data-dir"
    )


def load(name: str, data_dir: Path | None) -> ImageDataset:
    """The image set.

    Raises:
      InputError: there is no such set, or it is not prepared.
    """
    return data.load(name, data_dir)


def smaller(dataset: ImageDataset, *, images: int | None = None, size: int | None = None) -> ImageDataset:
    """The first images of each split, averaged over squares of pixels.

    Args:
      dataset: the set.
      images: images of each split; None or more than there are: all.
      size: height and width; None, or one that the set's is no multiple of, such as that of digits: the set's own.
    """
    height, width, _ = dataset.image_shape
    side = height // size if size is not None and height == width and height % size == 0 else 1

    def small(split: ImageSplit) -> ImageSplit:
        pixels = split.images[:images]
        if side > 1:
            shape = (len(pixels), height // side, side, width // side, side, -1)
            pixels = np.round(pixels.astype(np.float32).reshape(shape).mean(axis=(2, 4))).astype(np.uint8)
        return ImageSplit(pixels, split.labels[:images])

    return dataclasses.replace(
        dataset,
        name=dataset.name if side == 1 else f"{dataset.name}_{height // side}",
        train=small(dataset.train),
        test=small(dataset.test),
        augmentation=dataclasses.replace(dataset.augmentation, padding=dataset.augmentation.padding // side),
    )
