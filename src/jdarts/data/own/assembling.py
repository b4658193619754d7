"""Makes an image set of decoded images: order, test images, statistics and augmentation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jdarts.data.augmentation import Augmentation
from jdarts.data.checks import SMALLEST_STD
from jdarts.data.dataset import ImageDataset, ImageSplit
from jdarts.data.own.decoded import Decoded, DecodedSplit
from jdarts.data.own.pictures import TEST, TRAIN, VALID, listed
from jdarts.data.splitting import stable_permutation, stratified_order
from jdarts.errors import InputError

#: Share and seed of the test images of a source that has none.
TEST_FRACTION, SPLIT_SEED = 0.2, 0
#: Images whose statistics are computed at once.
_CHUNK = 1024


def assemble(name: str, decoded: Decoded) -> tuple[ImageDataset, tuple[str, ...]]:
    """The image set of decoded images, and sentences about how it was read.

    The order follows from the images and not from their place: a folder sorted by class gives the same set as a shuffled one.

    Args:
      name: the set's name.
      decoded: the images.

    Raises:
      InputError: there are no test images, and a class has a single image.
    """
    ordered = {split: _in_order(images) for split, images in decoded.splits.items()}
    splits = {split: images for split, (images, _) in ordered.items()}
    names = {split: names for split, (_, names) in ordered.items()}
    notes = [f"{decoded.kind}, {len(decoded.class_names):,} classes", *decoded.notes]
    train, test, test_names = splits[TRAIN], splits.get(TEST), names.get(TEST, [])
    if test is None and VALID in splits:
        test, test_names = splits[VALID], names[VALID]
        notes.append(validation_as_test(len(test)))
    elif test is None:
        rows, note = rows_without_test(train.labels, decoded.class_names)
        train, test = (ImageSplit(*train[each]) for each in rows)
        test_names = [names[TRAIN][row] for row in rows[1]]
        notes.append(note)
    elif VALID in splits:
        train, _ = _in_order(_joined(decoded.splits[TRAIN], decoded.splits[VALID]))
        notes.append(
            f"the {len(splits[VALID]):,} validation images join the training images, of which a search and "
            "--validation-fraction hold out their own"
        )
    augmentation = usual_augmentation(train)
    mirrored = ", mirrored at random (--no-flip)" if augmentation.flip else ", not mirrored (--flip)"
    notes.append(f"augmented by random crops with padding {augmentation.padding}{mirrored}")
    mean, std = statistics(train.images)
    dataset = ImageDataset(
        name=name,
        train=train,
        test=test,
        class_names=decoded.class_names,
        mean=mean,
        std=std,
        augmentation=augmentation,
        test_names=tuple(test_names),
    )
    return dataset, tuple(notes)


def rows_without_test(labels: np.ndarray, class_names: Sequence[str]) -> tuple[tuple[np.ndarray, np.ndarray], str]:
    """The rows that train and those that test, of a source without test images; and a sentence that says so.

    Args:
      labels: of the training images, int32 `[N]`.
      class_names: one name per label.

    Raises:
      InputError: a class has a single image.
    """
    _check_two_of_each(labels, class_names)
    first = len(labels) - max(len(class_names), round(TEST_FRACTION * len(labels)))
    order = stratified_order(labels, first, SPLIT_SEED)
    note = (
        f"there are no test images; a fifth of each class, chosen with seed {SPLIT_SEED}, serves as such: {first:,} to train "
        f"and {len(labels) - first:,} to test"
    )
    return (order[:first], order[first:]), note


def validation_as_test(count: int) -> str:
    """A sentence on a source that has validation images and no test images."""
    return f"there are no test images; the {count:,} validation images serve as such"


def usual_augmentation(images: ImageSplit) -> Augmentation:
    """Crops with an eighth of the shorter side as padding, as for CIFAR; colour images, mostly photographs, are mirrored too."""
    _, height, width, channels = images.images.shape
    return Augmentation(padding=-(-min(height, width) // 8), flip=channels == 3)


def statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, on the scale 0..1; a constant channel counts as one of deviation 1.

    Args:
      images: uint8 `[N, H, W, C]`.
    """
    channels = images.shape[-1]
    # Sums of whole numbers are exact, so the result does not depend on the order.
    total, squares = (np.zeros(channels, np.int64) for _ in range(2))
    for start in range(0, len(images), _CHUNK):
        values = images[start : start + _CHUNK].reshape(-1, channels)
        for channel in range(channels):
            counts = np.bincount(values[:, channel], minlength=256)
            total[channel] += counts @ np.arange(256)
            squares[channel] += counts @ np.arange(256) ** 2
    pixels = images.size // channels
    mean = total / pixels / 255
    std = np.sqrt(np.maximum(squares / pixels / 255**2 - mean**2, 0))
    return tuple(map(float, mean)), tuple(map(float, np.where(std < SMALLEST_STD, 1.0, std)))


def set_name(path: Path) -> str:
    """The name of a set that lies at a path: that of its folder or file."""
    suffix = path.suffix.lower()
    name = path.stem if suffix == ".npz" else path.parent.name if suffix == ".npy" else path.name
    return name.encode("utf-8", "backslashreplace").decode() or "images"


def _in_order(split: DecodedSplit) -> tuple[ImageSplit, list[str]]:
    """The images in an order that follows from themselves, sorted by digest, then shuffled with a fixed seed; and their names."""
    order = np.lexsort((split.images.labels, split.digests))
    rows = order[stable_permutation(len(order), SPLIT_SEED)]
    return ImageSplit(*split.images[rows]), [split.names[int(row)] for row in rows]


def _joined(first: DecodedSplit, second: DecodedSplit) -> DecodedSplit:
    images, labels, digests = (
        np.concatenate(pair)
        for pair in zip(
            (first.images.images, first.images.labels, first.digests),
            (second.images.images, second.images.labels, second.digests),
        )
    )
    return DecodedSplit(ImageSplit(images, labels), digests, [*first.names, *second.names])


def _check_two_of_each(labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Checks that each class has an image to train and one to test."""
    counts = np.bincount(labels, minlength=len(class_names))
    lonely = [name for name, count in zip(class_names, counts) if count < 2]
    if lonely:
        raise InputError(
            f"{listed(lonely)} {'has one image' if len(lonely) == 1 else 'have one image each'}, and without test images each "
            "class needs two, to train and to test; a search needs three"
        )
