"""What a reader of original files hands over, whichever form the files have."""

import contextlib
import dataclasses
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


def check_labels(labels: np.ndarray, classes: int, file: str) -> None:
    """Raises an `InputError` that names the file unless all labels lie in `0..classes-1`."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise InputError(
            f"{file}: record {wrong[0]} has label {labels[wrong[0]]}, labels are 0..{classes - 1}; "
            "the file is damaged or of another set"
        )


@contextlib.contextmanager
def os_errors_as_input(path: Path | str) -> Iterator[None]:
    """Turns an operating-system error (no permission, no space) into an `InputError` that names the path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{error.filename or path}: {reason}") from error
