"""Reads a checkpoint's record, which readers need without the arrays, and verifies its checksums."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jdarts.checkpoint.checksums import OtherChecksums, by_name, checksums_of
from jdarts.checkpoint.folders import CHECKSUMS, RECORD, UnreadableError, is_folder, readable, reason_of, step_of
from jdarts.errors import InputError
from jdarts.files.json_data import Fields, parse_json

#: The layout of arrays and record, `format` in the record. In format 1 an optimiser's state may be stored leaf by leaf.
FORMAT = 2


class Checkpoint(NamedTuple):
    """A checkpoint on disk with verified checksums.

    Attributes:
      path: its folder.
      step: the step after which it was written.
      record: JSON data stored with the arrays.
    """

    path: Path
    step: int
    record: Mapping[str, Any]


def read(path: Path) -> Checkpoint:
    """Reads a checkpoint's record and verifies its checksums.

    Raises:
      InputError: it is not a checkpoint, half-written or damaged.
      UnreadableError: it cannot be read, or a later version wrote it.
    """
    step = step_of(path)
    if step is None or not is_folder(path):
        raise InputError(f"{path} is not a checkpoint; give a run's folder or a step_… folder below its checkpoints")
    try:
        with readable(path):
            expected = by_name((path / CHECKSUMS).read_text(encoding="utf-8"))
            actual = by_name(checksums_of(path))
    except (OSError, UnicodeDecodeError, OtherChecksums) as error:
        raise _damaged(path, reason_of(error)) from error
    for name in sorted({*expected, *actual}):
        if name not in actual:
            raise _damaged(path, f"{name} is missing")
        if expected.get(name) != actual[name]:
            raise _damaged(path, f"{name} has changed since it was written")
    try:
        with readable(path):
            record = parse_json((path / RECORD).read_bytes())
        Fields(record)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise _damaged(path, f"{RECORD}: {reason_of(error)}") from error
    _check_format(path, record)
    return Checkpoint(path, step, record)


def _check_format(path: Path, record: Mapping[str, Any]) -> None:
    number = record.get("format", 1)
    if not isinstance(number, int) or not 1 <= number <= FORMAT:
        versions = record.get("versions")
        writer = (
            f"jdarts {versions['jdarts']}" if isinstance(versions, dict) and "jdarts" in versions else "another version"
        )
        raise UnreadableError(
            f"checkpoint {path} has format {number!r:.60}, written by {writer}; this version of jdarts reads formats up to "
            f"{FORMAT}: install the version that wrote it"
        )


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"checkpoint {path} is damaged ({reason})")
