"""Images in memory in another size."""

import dataclasses
import hashlib

import numpy as np

from jdarts.data.dataset import ImageDataset, ImageSplit
from jdarts.data.own.sizes import check_side


def resized_images(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """The largest central part with the ratio of the sides, resized; the images themselves if they have the size.

    Args:
      images: uint8 `[N, H, W, C]`, 1 or 3 channels.
      height: of the result in pixels.
      width: likewise.

    Returns:
      uint8 `[N, height, width, C]`.
    """
    from PIL import Image, ImageOps

    if images.shape[1:3] == (height, width):
        return images
    resized = np.empty((len(images), height, width, images.shape[-1]), np.uint8)
    for row, image in enumerate(images):
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        fitted = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
        resized[row] = np.asarray(fitted).reshape(height, width, -1)
    return resized


def resized_set(dataset: ImageDataset, image_size: int | None) -> ImageDataset:
    """A set with square images of a side in pixels; the set itself if the side is None, or that of its images.

    Raises:
      InputError: networks cannot halve such images twice.
    """
    check_side(image_size)
    if image_size is None or dataset.image_shape[:2] == (image_size, image_size):
        return dataset
    train, test = (
        ImageSplit(resized_images(split.images, image_size, image_size), split.labels)
        for split in (dataset.train, dataset.test)
    )
    return dataclasses.replace(dataset, train=train, test=test)


def digests_of(images: np.ndarray) -> np.ndarray:
    """A digest of each image, of type S16 `[N]`; those of equal images are equal."""
    return np.array([hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images], "S16")
