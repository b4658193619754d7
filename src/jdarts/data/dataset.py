"""Image sets in memory, and their split into the two halves of a search."""

import dataclasses
from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from jdarts.data.augmentation import Augmentation
from jdarts.data.checks import check_class_names, check_images, check_labels_named, check_statistics
from jdarts.data.checksum import checksum
from jdarts.data.splitting import check_classes, disjoint_parts, first_size, stratified_order
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
        """Images and labels at one index, a slice, or an array of indices."""
        return self.images[index], self.labels[index]


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDataset:
    """An image set with all that training on it needs.

    Attributes:
      name: One of `jdarts.data.NAMES`, or the user's own.
      train: Training images; the search splits them with `halves`.
      test: Test images.
      class_names: One name per label.
      mean: Mean of the training images per channel, on the scale 0..1.
      std: Standard deviation of the training images per channel, on the scale 0..1.
      augmentation: The default augmentation of training images.
      shuffled: Whether the order of the training images is random already. A split then keeps that order, as published
        splits of CIFAR-10 do; the splits of other sets are shuffled, with equal shares of each class.
      test_names: What messages call each test image, such as its file; empty for sets without names.

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
    shuffled: bool = False
    test_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise InputError(
                f"the set's name is {self.name!r}; give a text, which becomes part of the names of its runs"
            )
        for field, kind in (("train", "ImageSplit"), ("test", "ImageSplit"), ("augmentation", "Augmentation")):
            given = getattr(self, field)
            if not (isinstance(given, Augmentation) if kind == "Augmentation" else hasattr(given, "images")):
                raise InputError(f"{field} is a {type(given).__name__}; give an {kind}")
        if not isinstance(self.shuffled, bool):
            raise InputError(f"shuffled is {self.shuffled!r}; give True or False")
        for field, kind in (("class_names", str), ("mean", float), ("std", float), ("test_names", str)):
            # Static arguments of a compiled step must be hashable: tuples, and no NumPy numbers.
            object.__setattr__(self, field, _tuple_of(kind, field, getattr(self, field)))
        train, test = self.train.images.shape[1:], self.test.images.shape[1:]
        if train != test:
            raise InputError(
                f"the training images are [H, W, C] = {list(train)} and the test images {list(test)}; give both one shape"
            )
        check_class_names(self.class_names)
        if self.test_names and len(self.test_names) != len(self.test):
            raise InputError(
                f"test_names has {len(self.test_names)} names for {len(self.test)} test images; give one each, or none"
            )
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

    @property
    def fingerprint(self) -> dict[str, Any]:
        """JSON data that identifies this set: all that decides a run's result, with a checksum of images and labels.

        Arrays can change, so each call computes it again: a tenth of a second for 100 MB.
        """
        return {
            "name": self.name,
            "shape": list(self.image_shape),
            "train": len(self.train),
            "test": len(self.test),
            "class_names": list(self.class_names),
            "mean": list(self.mean),
            "std": list(self.std),
            "augmentation": dataclasses.asdict(self.augmentation),
            "shuffled": self.shuffled,
            "sha256": checksum(self.train.images, self.train.labels, self.test.images, self.test.labels),
        }

    def arranged(self, *, fraction: float, seed: int | None = None) -> tuple[ImageSplit, int]:
        """The training images in the order of a split: first one part, then the other.

        Args:
          fraction: Share of the first part, strictly between 0 and 1.
          seed: As for `halves`; without it a `shuffled` set keeps its order, and another set uses seed 0.

        Returns:
          The images, and the size of the first part. If the order is kept, they are `train` itself.

        Raises:
          InputError: As for `halves`.
        """
        seed = self._split_seed(seed)
        first = first_size(len(self.train), fraction)
        whole = self.train
        if seed is not None:
            whole = ImageSplit(*whole[stratified_order(whole.labels, first, seed)])
        check_classes(whole.labels[:first], whole.labels[first:], seed, self.class_names)
        return whole, first

    def halves(
        self, *, fraction: float = 0.5, second: float | None = None, seed: int | None = None
    ) -> tuple[ImageSplit, ImageSplit]:
        """The two parts of `arranged`, which share its memory; arguments and errors are the same.

        Args:
          fraction: As there.
          second: Share of the second part, if some images are to be left out; None for all others.
          seed: As there.
        """
        if second is None:
            whole, first = self.arranged(fraction=fraction, seed=seed)
            return ImageSplit(*whole[:first]), ImageSplit(*whole[first:])
        parts = disjoint_parts(
            self.train.labels,
            len(self.train),
            fraction=fraction,
            second=second,
            seed=self._split_seed(seed),
            names=self.class_names,
        )
        first_part, second_part = (ImageSplit(*self.train[rows]) for rows in parts)
        return first_part, second_part

    def _split_seed(self, seed: int | None) -> int | None:
        """The seed of a split; None for the order of the images."""
        return 0 if seed is None and not self.shuffled else seed


def halves(split: ImageSplit, *, fraction: float = 0.5, seed: int | None = None) -> tuple[ImageSplit, ImageSplit]:
    """Splits a training set into images for the weights and images for the alphas.

    The DARTS search trains weights on the first ⌊fraction · N⌋ images and alphas on the rest (paper section
    3.1; the reference implementation takes indices 0..24,999 and 25,000..49,999 of CIFAR-10). Every set of
    `jdarts.data.load` is shuffled already: CIFAR by its official file order, digits once with a fixed seed, the others
    by TFDS. Other images, such as those sorted by class, need a `seed`; `ImageDataset.halves` gives one by default.

    Args:
      split: The training images.
      fraction: Share of the first part, strictly between 0 and 1.
      seed: None keeps the order. A seed shuffles the images, always in the same way, and gives each part its share of
        each class, at least one image.

    Returns:
      Two disjoint parts that together contain every image once. Without `seed` they share memory with `split`.

    Raises:
      InputError: A part would be empty, or would lack a class that the other part has.
    """
    if not isinstance(split, ImageSplit):
        raise InputError(
            f"halves splits an ImageSplit, and a {type(split).__name__} is given; a set has a method halves"
        )
    first = first_size(len(split), fraction)
    if seed is not None:
        split = ImageSplit(*split[stratified_order(split.labels, first, seed)])
    check_classes(split.labels[:first], split.labels[first:], seed)
    return ImageSplit(*split[:first]), ImageSplit(*split[first:])


def _tuple_of(kind: type, field: str, values: Any) -> tuple[Any, ...]:
    try:
        # The characters of a text and the entries of a set are not one value per class or channel.
        if isinstance(values, (str, bytes, Set, Mapping)) or any(
            value is None or isinstance(value, bool) for value in values
        ):
            raise ValueError
        return tuple(kind(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        form = "texts, one per label" if kind is str else "numbers, one per channel"
        raise InputError(f"{field} is {values!r}; give a tuple of {form}") from None
