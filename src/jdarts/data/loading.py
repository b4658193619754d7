"""Loads an image set by its name, from one table of sources to which a program adds its own."""

import functools
import os
from collections.abc import Callable
from pathlib import Path

from jdarts.data.catalogue import CATALOGUE, DIGITS, check_name
from jdarts.data.dataset import ImageDataset
from jdarts.data.digits import load_digits
from jdarts.data.originals.images import expanded
from jdarts.data.own.loading import Say, load_path, load_prepared_set
from jdarts.data.own.resizing import resized_set
from jdarts.data.own.tfds import configurations, is_prepared
from jdarts.data.prepared import load_prepared
from jdarts.data.streamed.dataset import LARGE
from jdarts.data.text.catalogue import SOTU, TEXTS
from jdarts.errors import InputError, shown

DataDir = str | os.PathLike[str] | None

#: From the folder of prepared sets to a set, by the set's name.
Loader = Callable[[DataDir], ImageDataset]

_LOADERS: dict[str, Loader] = {
    DIGITS: lambda data_dir: load_digits(),
    **{name: functools.partial(load_prepared, name, entry) for name, entry in CATALOGUE.items()},
}


def register_images(name: str, loader: Loader) -> None:
    """Adds an image set, which `load` and `--dataset` then find by its name.

    A run keeps the fingerprint of its images. A program that resumes the run registers the set again.

    Args:
      name: The name; one that no set has.
      loader: Gets the folder of prepared sets, or None for the default one, and returns the images under this name.

    Raises:
      InputError: The name is empty, no plain name, or taken.
    """
    if not isinstance(name, str) or not name.replace("_", "").replace("-", "").isalnum():
        raise InputError(f"an image set's name is {shown(name)}; give letters, digits, hyphens and underscores")
    if _is_set(name):
        raise InputError(f"there is a set {name!r} already; give another name")
    _LOADERS[name] = loader


def own_path(name: str, data_dir: DataDir = None) -> Path | None:
    """The path that `load` reads, without symbolic links; None if the text is the name of a set.

    A known name is a name, whatever lies in the present folder. Any other text is a path if something exists there, and
    otherwise if it has the form of one: with a slash or the suffix of arrays, unless a prepared set has that name.

    Args:
      name: the text.
      data_dir: as for `load`.
    """
    if _is_set(name):
        return None
    path = expanded(name)
    try:
        if path.exists():
            return path.resolve()
    except OSError:
        # It lies in a folder that may not be read, which the reader says.
        return path.absolute()
    except ValueError:
        return None
    looks = "/" in name or name in (".", "..") or path.suffix.lower() in (".npz", ".npy")
    return path.absolute() if looks and not is_prepared(name, data_dir) else None


def load(
    name: str | os.PathLike[str],
    data_dir: DataDir = None,
    *,
    image_size: int | None = None,
    say: Say = lambda text: None,
) -> ImageDataset:
    """Loads a whole image set into memory. Never downloads.

    Args:
      name: One of `jdarts.data.NAMES`, or a name given to `register_images`, or the name of any image set that
        tensorflow-datasets has prepared. `digits` needs nothing; the others of `NAMES` must have been prepared with `python -m
        jdarts.data prepare NAME`. Or a path: of a folder with a folder of images for each class, or with `train/` and
        `test/` that have such folders; of an `.npz` file, or of a folder with `images.npy` and `labels.npy`.
      data_dir: Folder of prepared sets; by default TFDS_DATA_DIR, or else ~/tensorflow_datasets.
      image_size: side to which the images are resized; None keeps the size of a named set, and gives own images of several
        sizes one.
      say: shows sentences about how images are read.

    Raises:
      InputError: The name is unknown or that of a set too large for memory, or the set is not prepared, or its files
        are damaged, or a path holds no images, or a registered loader returns something else.
    """
    name = os.fspath(name)
    if name in (SOTU, *TEXTS):
        raise InputError(f"{name} is a text; search on it with: python -m jdarts.language.search --dataset {name}")
    if name in LARGE:
        raise InputError(
            f"{name} does not fit into memory; train a network on it with: python -m jdarts.train --dataset {name}, and "
            f"search cells on it with: python -m jdarts.search --network imagenet --dataset {name}"
        )
    path = own_path(name, data_dir)
    if path is not None:
        return load_path(path, image_size, say)
    if name not in _LOADERS and is_prepared(name, data_dir):
        return load_prepared_set(name, data_dir, image_size, say)
    _check_known(name, data_dir)
    dataset = _LOADERS[name](data_dir)
    if not isinstance(dataset, ImageDataset) or dataset.name != name:
        raise InputError(f"the loader of {name} returns {shown(dataset)}; let it return an ImageDataset of that name")
    return resized_set(dataset, image_size)


def _is_set(name: str) -> bool:
    """Whether a name is that of images or of a text, registered ones included."""
    return name in (*_LOADERS, *LARGE, SOTU, *TEXTS)


def _check_known(name: str, data_dir: DataDir) -> None:
    if name not in _LOADERS and (found := configurations(name, data_dir)):
        raise InputError(f"{name} has several configurations; give {' or '.join(found)}")
    try:
        check_name(name, tuple(_LOADERS))
    except InputError as error:
        raise InputError(f"{error}; for images of your own give the path of their folder") from None
