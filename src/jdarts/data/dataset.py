"""Image sets in memory: random-access sequences of arrays, and the search's two halves."""

import dataclasses

import numpy as np

from jdarts.data.augmentation import Augmentation
from jdarts.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSplit:
    """Labelled images, all in memory.

    Attributes:
      images: uint8 `[N, H, W, C]`.
      labels: int32 `[N]`.

    Raises:
      InputError: An array has another type or shape, or the lengths differ.
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise InputError(
                f"images are {self.images.dtype} {list(self.images.shape)}; they must be uint8 [N, H, W, C]"
            )
        if self.labels.dtype != np.int32 or self.labels.shape != self.images.shape[:1]:
            raise InputError(
                f"labels are {self.labels.dtype} {list(self.labels.shape)}; "
                f"they must be int32 [{len(self.images)}], one for each image"
            )

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
    """

    name: str
    train: ImageSplit
    test: ImageSplit
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation

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
