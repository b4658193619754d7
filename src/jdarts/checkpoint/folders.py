"""Where checkpoints lie and what they are called, and what of them a process can read."""

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
#: What the name of a checkpoint begins with while it is written.
ASIDE = ".incomplete-"
_NAME = re.compile(r"step_(\d+)")
#: What the system says of files that are missing, of the wrong kind or on a bad part of a disk.
_DAMAGES = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO)


class UnreadableError(InputError):
    """A checkpoint that may be whole, but that this process cannot read: passing it over would lose what it holds."""


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies in a folder of checkpoints, if it is there."""
    return folder / f"step_{step:08d}"


def step_of(path: Path) -> int | None:
    """The step that a checkpoint's name says; None where the name is not one of a checkpoint."""
    match = _NAME.fullmatch(path.resolve().name)
    return int(match[1]) if match else None


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder, whole or damaged, the newest first."""
    return [step for step, _ in newest_first(folder)]


def newest_first(folder: Path, up_to: float = float("inf")) -> list[tuple[int, Path]]:
    """Steps and paths of the checkpoints in a folder, whole or damaged, up to a step."""
    found = [(int(match[1]), folder / match[0]) for name in _names(folder) if (match := _NAME.fullmatch(name))]
    return sorted((entry for entry in found if entry[0] <= up_to), reverse=True)


def half_written(folder: Path) -> list[Path]:
    """What interrupted writes have left behind in a folder of checkpoints."""
    return [folder / name for name in _names(folder) if name.startswith(ASIDE)]


def is_folder(path: Path) -> bool:
    """Whether there is a folder.

    Raises:
      UnreadableError: the system does not say.
    """
    with readable(path):
        try:
            return stat.S_ISDIR(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises an `UnreadableError` for what the process cannot read, and leaves the system's own errors for what is damaged."""
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
    """An error in a few words: of the system, of Orbax or of its libraries."""
    if isinstance(error, OSError) and error.strerror:
        return f"{Path(error.filename).name}: {error.strerror}" if error.filename else error.strerror
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def _names(folder: Path) -> list[str]:
    """Names of what lies in a folder; none where there is no folder."""
    with readable(folder):
        try:
            return os.listdir(folder)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            raise UnreadableError(
                f"{folder} is a file, and checkpoints lie in a folder of this name; move it away and start the same command again"
            ) from None
