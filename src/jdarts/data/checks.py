"""Checks of an image set before anything is computed from it."""

import math
import numbers
from collections.abc import Sequence

import numpy as np

from jdarts.errors import InputError

#: A thousandth of a pixel's smallest step, 1/255. Images that vary have a larger standard deviation.
SMALLEST_STD = 4e-6


def check_images(images: np.ndarray, labels: np.ndarray) -> None:
    """Checks one split: types, shapes, sizes, and that no label is negative.

    Args:
      images: uint8 `[N, H, W, C]`, no size 0.
      labels: int32 `[N]`.

    Raises:
      InputError: they are something else.
    """
    for name, array, form in (("images", images, "uint8 [N, H, W, C]"), ("labels", labels, "int32 [N]")):
        if not hasattr(array, "dtype") or not hasattr(array, "shape"):
            raise InputError(f"{name} are a {type(array).__name__}; they must be a NumPy array, {form}")
        if isinstance(array, np.ma.MaskedArray):
            raise InputError(f"{name} are a masked array; remove the masked images, and give a plain array, {form}")
    if images.dtype != np.uint8 or images.ndim != 4:
        raise InputError(f"images are {images.dtype} {list(images.shape)}; they must be uint8 [N, H, W, C]")
    if labels.dtype != np.int32 or labels.shape != images.shape[:1]:
        raise InputError(
            f"labels are {labels.dtype} {list(labels.shape)}; they must be int32 [{len(images)}], one for each image"
        )
    if 0 in images.shape:
        raise InputError(
            f"images are [N, H, W, C] = {list(images.shape)}; give at least one image of at least one pixel"
        )
    if (least := labels.min()) < 0:
        raise InputError(
            f"image {labels.argmin():,} has the label {least}; labels count classes from 0: give it the number of its "
            "class, or leave the image out"
        )


def check_labels_named(labels: np.ndarray, class_names: Sequence[str], split: str) -> None:
    """Checks that every label of a split is the index of a class name.

    Args:
      labels: int32 `[N]`.
      class_names: one name per label.
      split: the split's name, for the message.

    Raises:
      InputError: a label is negative, or there is no class name for it.
    """
    least, most, classes = int(labels.min()), int(labels.max()), len(class_names)
    if least >= 0 and most < classes:
        return
    if least >= 1 and most == classes:
        mend = "subtract 1 from each"
    elif least < 0:
        mend = "leave out the images that have no class"
    else:
        mend = f"give a class name for each of the labels up to {most}, or number the classes again"
    raise InputError(
        f"the {split} labels run from {least} to {most}; with {classes} class names they must run from 0 to "
        f"{classes - 1}: {mend}"
    )


def check_class_names(class_names: Sequence[str]) -> None:
    """Checks that every class has a different name.

    Raises:
      InputError: there are no names, one is empty, or two are equal.
    """
    if not class_names:
        raise InputError("there are no class names; give one for each label, for example ('cat', 'dog')")
    indices: dict[str, int] = {}
    for index, name in enumerate(class_names):
        if not name.strip():
            raise InputError(f"the class {index} has the name {name!r}; give each a name")
        if (first := indices.setdefault(name, index)) != index:
            raise InputError(f"the classes {first} and {index} both have the name {name!r}; give each its own name")


def check_statistics(mean: Sequence[float], std: Sequence[float], channels: int) -> None:
    """Checks mean and standard deviation of images, per channel, on the scale 0..1.

    Args:
      mean: each from 0 to 1.
      std: each from `SMALLEST_STD` to 1.
      channels: number of channels.

    Raises:
      InputError: a value is out of its range, or there is not one value per channel.
    """
    for name, values in (("mean", mean), ("std", std)):
        shown = f"{name} is {tuple(values)}"
        if len(values) != channels:
            raise InputError(f"{shown}, the images have {channels} channels; give one value per channel")
        if not all(map(_is_finite, values)):
            raise InputError(f"{shown}; give finite numbers, on the scale 0 to 1")
        if max(values) > 1:
            raise InputError(f"{shown}; pixels count from 0 to 1 here: divide values on the scale 0 to 255 by 255")
        if min(values) < 0:
            raise InputError(f"{shown}; it cannot be negative, as pixels count from 0 to 1")
    if min(std) < SMALLEST_STD:
        raise InputError(
            f"std is {tuple(std)}; images are divided by it, so give {SMALLEST_STD} or more, such as 1 for a channel that is "
            "constant"
        )


def _is_finite(value: object) -> bool:
    """Whether this is a number that a float can represent."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False
