"""The user's cache folder. Processes load and run its files, so nobody else may write to it."""

import contextlib
import os
import shutil
import stat
from pathlib import Path

#: Write permissions of anybody but the owner.
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/jdarts`, by default `~/.cache/jdarts`.

    Raises:
      OSError: the user has no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "jdarts"
    except RuntimeError as error:
        raise OSError(str(error)) from error


def private_folder(path: Path) -> Path:
    """Creates a folder, and missing folders above it, that only this user may read and write.

    If others may write to an existing folder, its files may be theirs: they are removed, and the folder is closed to others.

    Args:
      path: the folder.

    Returns:
      The folder without symbolic links.

    Raises:
      OSError: the folder cannot be created, or belongs to another user, or others may replace it.
    """
    if path.is_symlink():
        _refuse_others(path, path.lstat())
    path = path.resolve()
    for folder in (*reversed(path.parents), path):
        folder.mkdir(mode=0o700, exist_ok=True)
    for folder in path.parents:
        status = folder.stat()
        _refuse_others(folder, status, and_allowed=(0,))
        others = _OTHERS_WRITE if status.st_gid != os.getegid() else stat.S_IWOTH
        if status.st_mode & others and not status.st_mode & stat.S_ISVTX:
            raise PermissionError(f"others may write to {folder} (mode {stat.S_IMODE(status.st_mode):04o})")
    status = path.lstat()
    _refuse_others(path, status)
    if status.st_mode & _OTHERS_WRITE:
        path.chmod(0o700)
        for entry in path.iterdir():
            remove(entry)
    elif status.st_mode & 0o077:
        with contextlib.suppress(OSError):  # a file system that cannot be written to
            path.chmod(0o700)
    return path


def is_private_file(path: Path) -> bool:
    """Whether a path is a plain file of this user, not a symbolic link, that nobody else may write to."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE


def remove(path: Path) -> None:
    """Removes a file, a symbolic link, or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _refuse_others(path: Path, status: os.stat_result, and_allowed: tuple[int, ...] = ()) -> None:
    if status.st_uid not in (os.geteuid(), *and_allowed):
        raise PermissionError(f"{path} belongs to another user (number {status.st_uid})")
