"""Image sets in memory: random-access sequences of arrays, and the search's two halves."""

import dataclasses
from typing import Any

import numpy as np

from jdarts.data.augmentation import Augmentation
from jdarts.data.checks import check_class_names, check_images, check_labels_named, check_statistics
from jdarts.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSplit:
    """Labelled images, all in memory.

    Attributes:
      images: uint8 `[N, H, W, C]`.
      labels: int32 `[N]`.

    Raises:
      InputError: An array has another type or shape, the lengths differ, there is no image or no pixel, or a label is
        negative.
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        check_images(self.images, self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | slice | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels at one place, a range of places, or an array of places."""
        return self.images[index], self.labels[index]


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDataset:
    """An image set with what training on it needs.

    Attributes:
      name: One of `jdarts.data.NAMES`, or the user's own.
      train: Training images; the search splits them with `halves`.
      test: Test images.
      class_names: One name per label.
      mean: Mean of the training images per channel, on the scale 0..1.
      std: Standard deviation of the training images per channel, on the scale 0..1.
      augmentation: What training does to its images by default.

    Raises:
      InputError: A label has no class name, two classes have the same name, the test images have another shape than the
        training images, or mean or std do not fit the channels or the scale.
    """

    name: str
    train: ImageSplit
    test: ImageSplit
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation

    def __post_init__(self) -> None:
        if isinstance(self.class_names, str):
            raise InputError(f"class_names is the text {self.class_names!r}; give a tuple with one name per label")
        for field, kind in (("class_names", str), ("mean", float), ("std", float)):
            # Lists and NumPy's numbers become what a static argument of a compiled step can be.
            object.__setattr__(self, field, _tuple_of(kind, field, getattr(self, field)))
        train, test = self.train.images.shape[1:], self.test.images.shape[1:]
        if train != test:
            raise InputError(
                f"the training images are [H, W, C] = {list(train)} and the test images {list(test)}; give both one shape"
            )
        check_class_names(self.class_names)
        for name in ("train", "test"):
            check_labels_named(getattr(self, name).labels, self.class_names, name)
        check_statistics(self.mean, self.std, train[-1])

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` of one image."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels


def halves(split: ImageSplit, *, fraction: float = 0.5, seed: int | None = None) -> tuple[ImageSplit, ImageSplit]:
    """Splits a training set into the images of the weights and the images of the alphas.

    The DARTS search trains weights on the first ⌊fraction · N⌋ images and alphas on the rest (paper section
    3.1; the reference implementation takes indices 0..24,999 and 25,000..49,999 of CIFAR-10). Every set of
    `jdarts.data.load` already comes in an order without pattern: CIFAR in its official file order, digits
    shuffled once with a fixed seed, the others as TFDS shuffled them. A set of your own that is sorted, by
    class for instance, needs a `seed`.

    Args:
      split: The training images.
      fraction: Share of the first part, strictly between 0 and 1.
      seed: Without it the file order is kept; with it the images are shuffled first, the same way each time.

    Returns:
      Two disjoint parts that together hold every image once. Without `seed` they share memory with `split`.

    Raises:
      InputError: A part would be empty.
    """
    first = int(fraction * len(split)) if 0 < fraction < 1 else 0
    if not 0 < first < len(split):
        raise InputError(
            f"fraction {fraction} of {len(split)} images leaves a part empty; "
            "give a fraction between 0 and 1 that leaves images on both sides"
        )
    if seed is None:
        return ImageSplit(*split[:first]), ImageSplit(*split[first:])
    order = stable_permutation(len(split), seed)
    return ImageSplit(*split[order[:first]]), ImageSplit(*split[order[first:]])


def stable_permutation(size: int, seed: int) -> np.ndarray:
    """A permutation of `0..size-1` that is the same in every version of numpy."""
    # numpy promises this for RandomState and not for default_rng.
    return np.random.RandomState(seed).permutation(size)


def _tuple_of(kind: type, field: str, values: Any) -> tuple[Any, ...]:
    try:
        return tuple(kind(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        form = "texts, one per label" if kind is str else "numbers, one per channel"
        raise InputError(f"{field} is {values!r}; give a tuple of {form}") from None
