"""Files that are written whole or not at all.

A file is written aside, under a name that nobody can foresee, and then renamed. Its writer holds a lock on it meanwhile, so
that what a killed writer has left is told from what another one is writing.
"""

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all, in UTF-8.

    Raises:
      OSError: the file cannot be written, or the disk is full; nothing is left behind then.
    """
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, and removes what killed writers of it have left.

    Raises:
      OSError: the file cannot be written, or the disk is full; nothing is left behind then.
    """
    remove_abandoned(path.parent, path.name)
    with _opened_aside(path) as (descriptor, part):
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.fsync(descriptor)
        part.replace(path)


def is_aside(name: str, of: str | None = None) -> bool:
    """Whether a file of this name is one that is written aside, in place of the file `of` or of any."""
    return _named_aside(of).fullmatch(name) is not None


def remove_abandoned(folder: Path, of: str | None = None) -> None:
    """Removes files that killed writers have left in a folder; those of writers that live stay.

    Args:
      folder: where to look; nothing happens where it cannot be read.
      of: name of the file that was to be written; any where it is not given.
    """
    named_aside = _named_aside(of)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for path in [Path(entry) for entry in entries if named_aside.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                _remove_if_abandoned(path)


@contextlib.contextmanager
def _opened_aside(path: Path) -> Iterator[tuple[int, Path]]:
    """A new file beside a path, locked; it is removed where an error ends its writing."""
    while True:
        part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.incomplete")
        # Never a file or a link that is there already.
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        try:
            # Another process may have taken it for abandoned before the lock was there.
            if _lock(descriptor) and not os.fstat(descriptor).st_nlink:
                continue
            yield descriptor, part
            return
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
        finally:
            os.close(descriptor)


def _remove_if_abandoned(path: Path) -> None:
    # Earlier versions put the number of the process into the names of drawings, and locked nothing.
    if (writer := _PROCESS.search(path.name)) and _lives(int(writer[1])):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Locks a file that only this process writes; whether the file system knows locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


_PROCESS = re.compile(r"\.(\d+)\.part$")


def _named_aside(of: str | None) -> re.Pattern[str]:
    name = ".+" if of is None else re.escape(of)
    return re.compile(rf"\.{name}\.(?:(?:[0-9a-f]{{16}}\.)?incomplete|\d+\.part)")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
