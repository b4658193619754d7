"""Folders and names of checkpoints, and the difference between a damaged one and one that cannot be read."""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from jdarts.errors import InputError

FOLDER = "checkpoints"
RECORD = "record.json"
ARRAYS = "arrays"
CHECKSUMS = "SHA256SUMS"
#: Prefix of a checkpoint's name until it is complete.
INCOMPLETE = ".incomplete-"
_NAME = re.compile(r"step_(\d+)")
#: System errors for files that are missing, of the wrong type or on a bad part of a disk.
_DAMAGES = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO)


class UnreadableError(InputError):
    """A checkpoint that this process cannot read, but that may be complete: to skip it would lose its steps."""


def path_of(folder: Path, step: int) -> Path:
    """The path of a step's checkpoint in a folder of checkpoints."""
    return folder / f"step_{step:08d}"


def step_of(path: Path) -> int | None:
    """The step in a checkpoint's name; None if it is not the name of a checkpoint."""
    match = _NAME.fullmatch(path.resolve().name)
    return int(match[1]) if match else None


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder, complete or damaged, the newest first."""
    return [step for step, _ in newest_first(folder)]


def newest_first(folder: Path, up_to: float = float("inf")) -> list[tuple[int, Path]]:
    """Steps and paths of the checkpoints in a folder, complete or damaged, up to a step; the newest first."""
    entries = [(int(match[1]), folder / match[0]) for name in _names(folder) if (match := _NAME.fullmatch(name))]
    return sorted((entry for entry in entries if entry[0] <= up_to), reverse=True)


def half_written(folder: Path) -> list[Path]:
    """The incomplete checkpoints of interrupted writes in a folder of checkpoints."""
    return [folder / name for name in _names(folder) if name.startswith(INCOMPLETE)]


def is_folder(path: Path) -> bool:
    """Whether a path is a folder.

    Raises:
      UnreadableError: the system refuses to look.
    """
    with readable(path):
        try:
            return stat.S_ISDIR(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises an `UnreadableError` for files that the process cannot read, and passes on system errors for damaged ones."""
    try:
        yield
    except OSError as error:
        if error.errno in _DAMAGES:
            raise
        raise UnreadableError(
            f"cannot read {error.filename or path}: {error.strerror or error}; make it readable and start the same command "
            "again"
        ) from error


def reason_of(error: Exception) -> str:
    """A short text for an error of the system, of Orbax or of its libraries."""
    if isinstance(error, OSError) and error.strerror:
        return f"{Path(error.filename).name}: {error.strerror}" if error.filename else error.strerror
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def _names(folder: Path) -> list[str]:
    """Names of the entries of a folder; none if it does not exist."""
    with readable(folder):
        try:
            return os.listdir(folder)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            raise UnreadableError(
                f"{folder} is a file, but checkpoints need a folder of this name; move it away and start the same command again"
            ) from None
