"""Names of data sets and of runs' folders."""

import dataclasses
import hashlib
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from jdarts.errors import InputError
from jdarts.genotype.text import is_genotype_text, plain_text

Config = TypeVar("Config", bound=Any)


def check_dataset_text(text: str) -> None:
    """Raises an `InputError` for a text that is neither a data set's name nor a path."""
    if not text.strip() or set(text) & set("\n\r\t"):
        raise InputError(f"--dataset is {text!r}; give the name of a data set, or the path of a folder of images")


def check_dataset_name(name: str) -> None:
    """Raises an `InputError` for a data set's name that is not a plain name, such as a path."""
    if not name.strip() or name in (".", "..") or set(name) & set("/\\\n\r\t"):
        raise InputError(f"--dataset is {name!r}; give the name of a data set, not a path or an empty text")


def named_after(config: Config, data: Any, kind: type) -> Config:
    """The configuration, with its dataset renamed to that of `data` if data are given.

    Args:
      config: the settings, with a field `dataset`.
      data: the images or the text, or None.
      kind: the class that they must have.

    Raises:
      InputError: the data have another class.
    """
    if data is None:
        return config
    if not isinstance(data, kind):
        raise InputError(
            f"the data are a {type(data).__name__}; give a {kind.__name__}, or the name of a set in the configuration's dataset"
        )
    check_dataset_name(data.name)
    return dataclasses.replace(config, dataset=data.name)


def folder_name(name: str) -> str:
    """A data set's name within a folder's name: all but letters, digits, dots, underscores and hyphens become hyphens."""
    return re.sub(r"[^\w.-]+", "-", name)


def genotype_label(genotype: str, published: Collection[str]) -> str:
    """A short name of a genotype for folders: of the published cell, file or run's folder, or a digest of the text form."""
    if (name := plain_text(genotype).strip()) in published:
        return name
    if is_genotype_text(genotype):
        return hashlib.sha256(genotype.encode()).hexdigest()[:8]
    path, _, member = genotype.rpartition(":")
    return f"{Path(path).resolve().stem}-{member}" if path else Path(genotype).resolve().stem
