"""Loads an image set by its name."""

import os

from jdarts.data.catalogue import CATALOGUE, DIGITS, NAMES, check_name
from jdarts.data.dataset import ImageDataset
from jdarts.data.digits import load_digits
from jdarts.data.prepared import load_prepared
from jdarts.data.streamed.dataset import LARGE
from jdarts.data.text.catalogue import SOTU, TEXTS
from jdarts.errors import InputError


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> ImageDataset:
    """Loads a whole image set into memory. Never downloads.

    Args:
      name: One of `jdarts.data.NAMES`. `digits` needs nothing; the others must have been prepared with
        `python -m jdarts.data prepare NAME`.
      data_dir: Folder of prepared sets; by default TFDS_DATA_DIR, or else ~/tensorflow_datasets.

    Raises:
      InputError: The name is unknown or that of a set too large for memory, or the set is not prepared, or its files
        are damaged.
    """
    if name in (SOTU, *TEXTS):
        raise InputError(f"{name} is a text; search on it with: python -m jdarts.language.search --dataset {name}")
    if name in LARGE:
        raise InputError(
            f"{name} does not fit into memory; train a network on it with: python -m jdarts.train --dataset {name}"
        )
    check_name(name, NAMES)
    if name == DIGITS:
        return load_digits()
    return load_prepared(name, CATALOGUE[name], data_dir)
