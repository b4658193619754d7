"""The common result of all readers of original files."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jdarts.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class RawSplit:
    """One split in its official order.

    Attributes:
      images: uint8 `[N, H, W, C]`.
      labels: Integers `[N]` by the name of the label among TFDS's features.
    """

    images: np.ndarray
    labels: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class RawSet:
    """All splits of a set.

    Attributes:
      splits: By TFDS's name of the split.
      label_names: Class names by label; empty if the files contain none.
    """

    splits: Mapping[str, RawSplit]
    label_names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def check_labels(labels: np.ndarray, allowed: range, file: str) -> None:
    """Raises an `InputError` that names the file unless all labels are in `allowed`."""
    wrong = np.flatnonzero(~np.isin(labels, np.array(allowed)))
    if wrong.size:
        raise InputError(
            f"{file}: record {wrong[0]} has label {labels[wrong[0]]}, labels are {allowed[0]}..{allowed[-1]}; "
            "the file is damaged or of another set: get it again"
        )


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file.

    Args:
      path: the file.
      max_bytes: its largest allowed size. No more is read.

    Raises:
      InputError: it is larger, or cannot be read.
    """
    with os_errors_as_input(path), open_bounded(path, max_bytes) as file:
        content = file.read(max_bytes + 1)
    _check_size(path, len(content), max_bytes)
    return content


def open_bounded(path: Path, max_bytes: int) -> BinaryIO:
    """Opens a file for reading; arguments and errors as for `read_bounded`."""
    with os_errors_as_input(path):
        _check_size(path, path.stat().st_size, max_bytes)
        return path.open("rb")


def _check_size(path: Path, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise InputError(
            f"{path} has {size:,} bytes, at most {max_bytes:,} are expected; it is damaged or of another set: get it again"
        )


@contextlib.contextmanager
def os_errors_as_input(path: Path | str) -> Iterator[None]:
    """Turns an operating-system error (no permission, no space) into an `InputError` that names the path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{error.filename or path}: {reason}") from error


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with a leading `~` replaced by the user's home folder.

    Raises:
      InputError: the user is unknown.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(
            f"{os.fspath(path)!r} names the home folder of an unknown user; give the path without ~"
        ) from None
