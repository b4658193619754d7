"""Loads an image set by its name, from one table of sources to which a program adds its own."""

import functools
import os
from collections.abc import Callable

from jdarts.data.catalogue import CATALOGUE, DIGITS, check_name
from jdarts.data.dataset import ImageDataset
from jdarts.data.digits import load_digits
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
    if name in (*_LOADERS, *LARGE, SOTU, *TEXTS):
        raise InputError(f"there is a set {name!r} already; give another name")
    _LOADERS[name] = loader


def load(name: str, data_dir: DataDir = None) -> ImageDataset:
    """Loads a whole image set into memory. Never downloads.

    Args:
      name: One of `jdarts.data.NAMES`, or a name given to `register_images`. `digits` needs nothing; the others of `NAMES`
        must have been prepared with `python -m jdarts.data prepare NAME`.
      data_dir: Folder of prepared sets; by default TFDS_DATA_DIR, or else ~/tensorflow_datasets.

    Raises:
      InputError: The name is unknown or that of a set too large for memory, or the set is not prepared, or its files
        are damaged, or a registered loader returns something else.
    """
    if name in (SOTU, *TEXTS):
        raise InputError(f"{name} is a text; search on it with: python -m jdarts.language.search --dataset {name}")
    if name in LARGE:
        raise InputError(
            f"{name} does not fit into memory; train a network on it with: python -m jdarts.train --dataset {name}"
        )
    check_name(name, tuple(_LOADERS))
    dataset = _LOADERS[name](data_dir)
    if not isinstance(dataset, ImageDataset) or dataset.name != name:
        raise InputError(f"the loader of {name} returns {shown(dataset)}; let it return an ImageDataset of that name")
    return dataset
