"""Temporary folders that a process locks as long as it lives, so that those of killed processes can be told and removed."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder, locked where the file system can lock, and removed at the end.

    Args:
      parent: the folder that it is made in.
      prefix: how its name begins.

    Raises:
      OSError: it cannot be made.
    """
    folder, lock = _made(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextlib.contextmanager
def left_over(folder: Path) -> Iterator[None]:
    """Locks the folder of a process that does not live any more, and removes it at the end.

    Raises:
      OSError: a living process has the folder, or it is no folder, or cannot be locked or removed here.
    """
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
        shutil.rmtree(folder)
    finally:
        os.close(lock)


def _made(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            # Another process may have taken it for a left-over before it was locked.
            if folder.exists():
                return folder, lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
