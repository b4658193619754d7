"""What a reader of original files hands over, whichever form the files have."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from jdarts.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class RawSplit:
    """One split in its official order.

    Attributes:
      images: uint8 `[N, H, W, C]`.
      labels: For each label of TFDS's features, integers `[N]`.
    """

    images: np.ndarray
    labels: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class RawSet:
    """All splits of a set.

    Attributes:
      splits: By TFDS's name of the split.
      label_names: By label; empty where the files hold no names.
    """

    splits: Mapping[str, RawSplit]
    label_names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def check_labels(labels: np.ndarray, allowed: range, file: str) -> None:
    """Raises an `InputError` that names the file unless all labels are whole numbers of a range."""
    wrong = np.flatnonzero(~np.isin(labels, np.array(allowed)))
    if wrong.size:
        raise InputError(
            f"{file}: record {wrong[0]} has label {labels[wrong[0]]}, labels are {allowed[0]}..{allowed[-1]}; "
            "the file is damaged or of another set: get it again"
        )


def read_bounded(path: Path, most: int) -> bytes:
    """The bytes of a file.

    Args:
      path: the file.
      most: number of bytes that it may have. No more is read.

    Raises:
      InputError: it has more, or cannot be read.
    """
    with os_errors_as_input(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(most + 1) if size <= most else b""
    if max(size, len(content)) > most:
        raise InputError(
            f"{path} has {max(size, len(content)):,} bytes, {most:,} at the most are expected; "
            "it is damaged or of another set: get it again"
        )
    return content


@contextlib.contextmanager
def os_errors_as_input(path: Path | str) -> Iterator[None]:
    """Turns an operating-system error (no permission, no space) into an `InputError` that names the path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{error.filename or path}: {reason}") from error


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with a leading `~` replaced by the user's folder.

    Raises:
      InputError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(
            f"{os.fspath(path)!r} names the folder of a user who is not known here; give the path without ~"
        ) from None
