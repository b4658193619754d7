"""Files and folders that a person names."""

import errno
from pathlib import Path

from jdarts.errors import InputError

#: Characters of the longest path that a system accepts.
_MAX_PATH = 4096


def place_of(text: str) -> tuple[Path | None, str | None]:
    """The file or folder of a text, and the name or line in a file, as in `genotypes.py:DARTS_V2`; None for anything else.

    Raises:
      InputError: the file or folder cannot be accessed.
    """
    if not text or len(text) > _MAX_PATH or "\0" in text or "\n" in text:
        return None, None
    outer, _, member = text.rpartition(":")
    try:
        if Path(text).exists():
            return Path(text), None
        if outer and Path(outer).is_file():
            return Path(outer), member.strip()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise InputError(f"cannot read {text}: {error.strerror or error}") from None
    return None, None


def check_output(option: str, path: Path) -> None:
    """Checks that a file can lie where an option says, before what it gets is computed.

    Raises:
      InputError: a folder lies there, or there is no folder for it.
    """
    try:
        place = path.resolve() if path.is_symlink() else path
        is_folder, has_folder = place.is_dir(), place.parent.is_dir()
    except OSError as error:
        raise InputError(f"cannot write {option} {path}: {error.strerror or error}; give another file") from None
    if is_folder:
        raise InputError(f"{option} {path} is a folder; give a file in it")
    if not has_folder:
        raise InputError(f"{option} {path}: there is no folder {place.parent}")
