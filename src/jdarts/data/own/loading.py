"""From a path, or the name of a prepared set, to an image set."""

import os
from collections.abc import Callable
from pathlib import Path

from jdarts.data.dataset import ImageDataset
from jdarts.data.originals.images import os_errors_as_input
from jdarts.data.own import arrays, cache
from jdarts.data.own.assembling import assemble, set_name
from jdarts.data.own.decoded import Decoded
from jdarts.data.own.huggingface import is_saved_dataset, saved_pictures
from jdarts.data.own.pictures import MANY, Pictures, problem_lines
from jdarts.data.own.reading import read_pictures
from jdarts.data.own.scanning import scan
from jdarts.data.own.sizes import check_side
from jdarts.data.own.tfds import prepared_pictures
from jdarts.errors import InputError

#: Shows a sentence to the user.
Say = Callable[[str], None]


def load_path(path: Path, image_size: int | None, say: Say) -> ImageDataset:
    """The image set at a path: a folder of pictures or of `.npy` files, an `.npz` file, or a folder of Hugging Face datasets.

    The set is kept in the user's cache folder, and read from there as long as no file has changed.

    Args:
      path: the folder or file.
      image_size: side of the images; None for a default.
      say: shows how the images are read.

    Raises:
      InputError: the path does not exist or holds no images that can be trained on.
    """
    check_side(image_size)
    _check_exists(path)
    name = set_name(path)
    if path.is_dir() and not holds_arrays(path):
        return _of_pictures(name, path, pictures_at(path), image_size, say)
    files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
    with os_errors_as_input(path):
        identity = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return _kept(name, path, identity, image_size, say, lambda: decode_arrays(path, image_size))


def load_prepared_set(
    name: str, data_dir: str | os.PathLike[str] | None, image_size: int | None, say: Say
) -> ImageDataset:
    """Any set that tensorflow-datasets has prepared; arguments and errors as for `load_path`."""
    check_side(image_size)
    return _of_pictures(name, name, prepared_pictures(name, data_dir), image_size, say)


def pictures_at(path: Path) -> Pictures:
    """The pictures in a folder.

    Raises:
      InputError: there are none.
    """
    return saved_pictures(path) if is_saved_dataset(path) else scan(path)


def is_folder_of_pictures(path: Path) -> bool:
    """Whether a path is a folder whose pictures are files."""
    return path.is_dir() and not holds_arrays(path) and not is_saved_dataset(path)


def holds_arrays(folder: Path) -> bool:
    """Whether a folder holds `.npy` files, and so no pictures."""
    return any(folder.glob("*.npy"))


def decode_arrays(path: Path, image_size: int | None) -> Decoded:
    """The images of an `.npz` file, or of `.npy` files.

    Raises:
      InputError: as for `load_path`.
    """
    if path.is_dir() or path.suffix.lower() == ".npy":
        return arrays.read_npy(path, image_size)
    if path.suffix.lower() == ".npz":
        return arrays.read_npz(path, image_size)
    raise InputError(f"{path} is a file; give a folder of images, or an .npz or .npy file of arrays")


def read_path(path: Path, image_size: int | None) -> Decoded:
    """All images at a path with their names, without the cache; arguments and errors as for `load_path`."""
    check_side(image_size)
    _check_exists(path)
    if path.is_dir() and not holds_arrays(path):
        return read_pictures(pictures_at(path), image_size)
    return decode_arrays(path, image_size)


def read_prepared_set(name: str, data_dir: str | os.PathLike[str] | None, image_size: int | None) -> Decoded:
    """All images of a set that tensorflow-datasets has prepared; arguments and errors as for `load_prepared_set`."""
    check_side(image_size)
    return read_pictures(prepared_pictures(name, data_dir), image_size)


def _of_pictures(name: str, path: object, pictures: Pictures, image_size: int | None, say: Say) -> ImageDataset:
    def decode() -> Decoded:
        count = sum(map(len, pictures.splits.values()))
        if count >= MANY:
            say(f"reading {count:,} images of {path}")
        return read_pictures(pictures, image_size)

    identity = [pictures.kind, pictures.class_names, pictures.problems, pictures.identity]
    return _kept(name, path, identity, image_size, say, decode)


def _kept(
    name: str, path: object, identity: object, image_size: int | None, say: Say, decode: Callable[[], Decoded]
) -> ImageDataset:
    """The set from the cache, or decoded and kept."""
    key = cache.cache_key(str(path), identity, image_size)
    found = cache.read_cached(key, name)
    if found is None:
        decoded = decode()
        dataset, notes = assemble(name, decoded)
        found = dataset, (*notes, *problem_lines(path, decoded.problems))
        cache.keep(key, *found)
    dataset, notes = found
    for line in notes:
        say(f"{name}: {line}")
    return dataset


def _check_exists(path: Path) -> None:
    with os_errors_as_input(path):
        exists = path.exists()
    if not exists:
        raise InputError(f"{path} does not exist; give a folder of images, or an .npz file of arrays")
