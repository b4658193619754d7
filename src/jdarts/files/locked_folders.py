"""Temporary folders that a process locks while it lives, so that another one can recognise and remove those of killed ones."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new temporary folder, locked if the file system supports locks, and removed at the end.

    Args:
      parent: the folder that holds it.
      prefix: the start of its name.

    Raises:
      OSError: it cannot be created.
    """
    folder, lock = _create(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextlib.contextmanager
def abandoned_folder(folder: Path) -> Iterator[None]:
    """Locks the folder of a process that has ended, and removes it at the end.

    Raises:
      OSError: the process still lives, or the path is not a folder, or it cannot be locked or removed.
    """
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
        shutil.rmtree(folder)
    finally:
        os.close(lock)


def _create(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        # Until it is locked, another process may remove it as abandoned.
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
