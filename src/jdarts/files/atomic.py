"""Files that are written whole or not at all.

A writer fills a temporary file with an unpredictable name, and then renames it. Meanwhile it holds a lock on that file, which
distinguishes the file of a living writer from one that a killed writer left.
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
      OSError: the file cannot be written, or the disk is full; no temporary file stays.
    """
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, and removes temporary files that killed writers of it left.

    Raises:
      OSError: the file cannot be written, or the disk is full; no temporary file stays.
    """
    remove_abandoned(path.parent, path.name)
    with _temporary_file(path) as (descriptor, temporary):
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.fsync(descriptor)
        temporary.replace(path)


def is_temporary_name(name: str, of: str | None = None) -> bool:
    """Whether this is the name of a temporary file: of the file `of`, or of any."""
    return _temporary_name(of).fullmatch(name) is not None


def remove_abandoned(folder: Path, of: str | None = None) -> None:
    """Removes the temporary files of killed writers from a folder, and keeps those of living writers.

    Args:
      folder: the folder; nothing happens if it cannot be read.
      of: name of the file that they were to become; None for any file.
    """
    temporary_name = _temporary_name(of)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for path in [Path(entry) for entry in entries if temporary_name.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                _remove_if_abandoned(path)


@contextlib.contextmanager
def _temporary_file(path: Path) -> Iterator[tuple[int, Path]]:
    """A new locked file in the folder of `path`; an error removes it."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.incomplete")
        # O_EXCL: never an existing file or link.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        try:
            # Another process may have removed it as abandoned before it was locked.
            if _lock(descriptor) and not os.fstat(descriptor).st_nlink:
                continue
            yield descriptor, temporary
            return
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        finally:
            os.close(descriptor)


def _remove_if_abandoned(path: Path) -> None:
    # Earlier versions put the process number into the names of drawings, and locked nothing.
    if (writer := _PROCESS.search(path.name)) and _is_alive(int(writer[1])):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Locks a file of this process; returns whether the file system supports locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


_PROCESS = re.compile(r"\.(\d+)\.part$")


def _temporary_name(of: str | None) -> re.Pattern[str]:
    name = ".+" if of is None else re.escape(of)
    return re.compile(rf"\.{name}\.(?:(?:[0-9a-f]{{16}}\.)?incomplete|\d+\.part)")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
