"""Images in `.npz` and `.npy` files, under the names that people use."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jdarts.data.dataset import ImageSplit
from jdarts.data.originals.images import os_errors_as_input
from jdarts.data.own.decoded import Decoded, DecodedSplit
from jdarts.data.own.pictures import SPLITS, TEST, TRAIN, VALID, listed
from jdarts.data.own.reading import check_fits, memory_for_images
from jdarts.data.own.resizing import digests_of, resized_images
from jdarts.data.own.sizes import choose_size
from jdarts.errors import InputError
from jdarts.files.arrays import read_arrays

_PREFIXES = {TRAIN: ("train",), VALID: ("val", "valid", "validation"), TEST: ("test",)}
#: Names of images with names of their labels.
_PAIRS = (("images", "labels"), ("x", "y"), ("data", "labels"), ("data", "targets"), ("images", "targets"))
_CLASS_NAMES = ("class_names", "label_names", "classes", "names")
_KNOWN = "train_images and train_labels, with test_images and test_labels, or x_train and y_train, or images and labels"


class _Stored(NamedTuple):
    """An array in a file: its size in memory in bytes, and a function that reads it."""

    nbytes: int
    read: Callable[[], np.ndarray]


#: Arrays in files, by name.
Arrays = Mapping[str, _Stored]


def read_npz(path: Path, image_size: int | None) -> Decoded:
    """The images of an `.npz` file.

    Args:
      path: the file.
      image_size: side of the images; None for a default.

    Raises:
      InputError: the file is damaged, or has no arrays of images and labels under a known name.
    """
    with os_errors_as_input(path):
        _check_size(f"{path}", path.stat().st_size)
    arrays = {name: _Stored(stored.nbytes, stored.read) for name, stored in read_arrays(path).items()}
    return _decoded(f"the arrays of {path.name}", path, arrays, image_size)


def read_npy(path: Path, image_size: int | None) -> Decoded:
    """The images of a pair such as `images.npy` and `labels.npy`.

    Args:
      path: the folder of both files, or one of them.
      image_size: as for `read_npz`.

    Raises:
      InputError: as for `read_npz`.
    """
    folder = path if path.is_dir() else path.parent
    with os_errors_as_input(folder):
        sizes = {file: file.stat().st_size for file in sorted(folder.glob("*.npy"))}
    arrays = {file.stem: _Stored(size, functools.partial(_read, file)) for file, size in sizes.items()}
    return _decoded(f"the .npy files of {folder.name}", folder, arrays, image_size)


def _read(path: Path) -> np.ndarray:
    """The array of an `.npy` file."""
    try:
        array: Any = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is damaged or holds Python objects ({error}); save plain arrays") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} is an archive of arrays; give its name the suffix .npz, and the path of the file")
    return array


def _read_if_it_fits(path: Path, name: str, arrays: Arrays) -> np.ndarray:
    """An array of a file; a small file may hold a huge one, which is refused unread."""
    _check_size(f"{path}: {name}", arrays[name].nbytes)
    return arrays[name].read()


def _check_size(what: str, size: int) -> None:
    most = memory_for_images()
    if most is not None and size > most:
        raise InputError(
            f"{what} takes {size / 1e9:,.1f} GB in memory, and {most / 1e9:,.1f} GB are there for images; give fewer or "
            "smaller images, or a folder of pictures"
        )


def _decoded(kind: str, path: Path, arrays: Arrays, image_size: int | None) -> Decoded:
    found = {split: pair for split in SPLITS if (pair := _pair(arrays, split))}
    if TRAIN not in found and (pair := _pair(arrays, None)):
        found[TRAIN] = pair
    if TRAIN not in found:
        has = f"has {listed(map(repr, sorted(arrays)))}" if arrays else "has no arrays"
        raise InputError(f"{path} {has}; name the arrays {_KNOWN}")
    notes = [f"read as {' and '.join(f'{split}: {images}, {labels}' for split, (images, labels) in found.items())}"]
    pixels = {
        split: _pixels(path, images, _read_if_it_fits(path, images, arrays), notes)
        for split, (images, _) in found.items()
    }
    shapes = {images.shape[1:] for images in pixels.values()}
    if len(shapes) > 1:
        raise InputError(
            f"{path} has images of the shapes {listed(map(str, sorted(shapes)))}; give all splits one shape"
        )
    labels = {split: _labels(path, name, _read_if_it_fits(path, name, arrays)) for split, (_, name) in found.items()}
    for split, (images, name) in found.items():
        if len(pixels[split]) != len(labels[split]):
            raise InputError(
                f"{path} has {len(pixels[split]):,} {images} and {len(labels[split]):,} {name}; give one label for each image"
            )
    names, indices = _classes(path, labels, arrays)
    ((height, width, channels),) = shapes
    sizes = Counter({(width, height): sum(map(len, pixels.values()))})
    (new_height, new_width), note = choose_size(sizes, image_size)
    check_fits(sizes.total(), new_height, new_width, channels)
    splits = {}
    for split, images in pixels.items():
        resized = resized_images(images, new_height, new_width)
        member = [f"{found[split][0]}[{row}]" for row in range(len(images))]
        splits[split] = DecodedSplit(ImageSplit(resized, indices[split]), digests_of(resized), member)
    notes.append(f"{note}, {'grey' if channels == 1 else 'in colour'}")
    return Decoded(kind, splits, names, sizes, (), tuple(notes))


def _pair(arrays: Arrays, split: str | None) -> tuple[str, str] | None:
    """The names of the images and of the labels of a split; of a file without splits if it is None."""
    known = {name.lower(): name for name in arrays}
    for images, labels in _PAIRS:
        if split is None:
            forms = [(images, labels)]
        else:
            forms = [(form(images, prefix), form(labels, prefix)) for prefix in _PREFIXES[split] for form in _FORMS]
        for pair in forms:
            if pair[0] in known and pair[1] in known:
                return known[pair[0]], known[pair[1]]
    return ("arr_0", "arr_1") if split is None and set(known) == {"arr_0", "arr_1"} else None


_FORMS: tuple[Callable[[str, str], str], ...] = (
    lambda what, prefix: f"{prefix}_{what}",
    lambda what, prefix: f"{what}_{prefix}",
)


def _pixels(path: Path, name: str, images: np.ndarray, notes: list[str]) -> np.ndarray:
    """Images of any usual form as uint8 `[N, H, W, C]` with 1 or 3 channels."""
    shown = f"{path}: {name} is {images.dtype} {list(images.shape)}"
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise InputError(f"{shown}; give images [N, H, W] or [N, H, W, C], at least one")
    if images.shape[-1] not in (1, 3, 4) and images.shape[1] in (1, 3, 4):
        images = images.transpose(0, 2, 3, 1)
        notes.append(f"{name} has its channels first")
    if images.shape[-1] not in (1, 3, 4):
        raise InputError(f"{shown}; give 1 channel (grey), 3 (red, green, blue) or 4 (with opacity)")
    images = _bytes(shown, name, images, notes)
    if images.shape[-1] == 4:
        opacity = images[..., 3:].astype(np.uint32)
        images = ((images[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)
        notes.append(f"{name} has transparent parts, which become white")
    return np.ascontiguousarray(images)


def _bytes(shown: str, name: str, images: np.ndarray, notes: list[str]) -> np.ndarray:
    """Pixels of any usual type and scale as uint8."""
    if images.dtype == np.uint8:
        return images
    if images.dtype == bool:
        return images.astype(np.uint8) * np.uint8(255)
    if images.dtype.kind not in "iuf":
        raise InputError(f"{shown}; give numbers, best uint8 from 0 to 255")
    if not np.isfinite(images).all():
        raise InputError(f"{shown}, with values that are not finite; leave such images out")
    least, most = float(images.min()), float(images.max())
    if least < 0 or most > (65535 if images.dtype.kind != "f" else 255):
        raise InputError(
            f"{shown}, with values from {least:g} to {most:g}; give pixels from 0 to 255, or floats from 0 to 1"
        )
    if images.dtype.kind == "f" and most <= 1:
        notes.append(f"{name} runs from 0 to 1 and is multiplied by 255")
        return np.round(images * 255).astype(np.uint8)
    if most > 255:
        notes.append(f"{name} has 16 bits, of which the upper 8 are kept")
        return (images.astype(np.uint16) >> 8).astype(np.uint8)
    return np.round(images).astype(np.uint8)


def _labels(path: Path, name: str, labels: np.ndarray) -> np.ndarray:
    """Labels as an array [N] of whole numbers or texts."""
    shown = f"{path}: {name} is {labels.dtype} {list(labels.shape)}"
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.dtype.kind in "biuf" and ((labels != 0).sum(axis=1) == 1).all():
        labels = labels.argmax(axis=1)
    if labels.ndim != 1:
        raise InputError(f"{shown}; give one label for each image: [N], or [N, classes] with a single 1 in each row")
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.round(labels)).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "biuU":
        raise InputError(f"{shown}; give whole numbers or texts")
    if labels.dtype.kind == "i" and labels.min(initial=0) < 0:
        raise InputError(f"{shown}, with the label {labels.min()}; leave out the images that have no class")
    return labels


def _classes(
    path: Path, labels: Mapping[str, np.ndarray], arrays: Arrays
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """The names of the classes, and the labels as indices of them."""
    values = np.unique(labels[TRAIN])
    if len(values) < 2:
        raise InputError(
            f"{path} has the one label {values[0]}, and there is nothing to tell apart; give two or more classes"
        )
    unknown = np.setdiff1d(
        np.concatenate([each for split, each in labels.items() if split != TRAIN] or [values]), values
    )
    if len(unknown):
        raise InputError(
            f"{path} has labels that no training image has: {listed(map(str, unknown))}; give both the same"
        )
    given = next((_read_if_it_fits(path, name, arrays) for name in _CLASS_NAMES if name in arrays), None)
    names = tuple(map(str, values.tolist()))
    if given is not None and given.ndim == 1 and given.dtype.kind == "U" and values.dtype.kind in "iu":
        if values[-1] >= len(given):
            raise InputError(
                f"{path} has {len(given)} names of classes and the label {values[-1]}; labels count from 0"
            )
        names = tuple(str(given[value]) for value in values)
    return names, {split: np.searchsorted(values, each).astype(np.int32) for split, each in labels.items()}
