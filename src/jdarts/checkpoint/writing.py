"""Writes checkpoints atomically: a reader finds all of one or nothing."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from jdarts.checkpoint.arrays import write_arrays
from jdarts.checkpoint.checksums import checksums_of
from jdarts.checkpoint.folders import CHECKSUMS, INCOMPLETE, RECORD, half_written, newest_first, path_of, reason_of
from jdarts.errors import InputError
from jdarts.xla.jax_compat import sync_global_devices


def save(
    folder: Path,
    step: int,
    tree: Any,
    record: Mapping[str, Any],
    *,
    keep: int = 3,
    spare: Collection[int] = (),
) -> Path:
    """Writes a checkpoint, then removes older ones.

    Whatever interrupts the writing, a reader sees the complete checkpoint or none. If several processes hold the arrays, all
    of them must call it; process 0 does the work that is done once.

    Args:
      folder: folder of the run's checkpoints; created if it is missing.
      step: the step of the tree.
      tree: pytree of arrays, including typed PRNG keys.
      record: JSON data to be read without the arrays.
      keep: number of checkpoints up to this step to keep. Later ones, which only a run that went back has, stay.
      spare: steps whose checkpoints also stay.

    Returns:
      The checkpoint's folder.

    Raises:
      InputError: the folder cannot be written, or the disk is full.
    """
    target = path_of(folder, step)
    aside = folder / f"{INCOMPLETE}{target.name}"
    try:
        with contextlib.ExitStack() as stack:
            is_first = jax.process_index() == 0
            if is_first:
                folder.mkdir(parents=True, exist_ok=True)
                _remove(aside)
                aside.mkdir()
                created = stack.enter_context(_open_folder(aside))
            _wait_for_all("folder")
            write_arrays(aside, tree)
            _wait_for_all("arrays")
            if not is_first:
                _wait_for_all("sealed")
                return target
            if not os.path.samestat(created, aside.stat()):
                _remove_stray(aside)
                raise FileNotFoundError(errno.ENOENT, "it was removed or replaced meanwhile", str(folder))
            _write_through(aside / RECORD, json.dumps(record, indent=1) + "\n")
            _write_through(aside / CHECKSUMS, checksums_of(aside))
            _put_in_place(aside, target)
            _wait_for_all("sealed")
    except (OSError, ValueError) as error:
        # Orbax reports a full disk as a ValueError of a library that it uses.
        _remove(aside)
        raise InputError(
            f"cannot write checkpoint {target}: {reason_of(error)}; free some space or mend the folder, and "
            "start the same command again"
        ) from error
    for number, old in newest_first(folder, up_to=step)[keep:]:
        if number not in spare:
            shutil.rmtree(old, ignore_errors=True)
    return target


def remove_half_written(folder: Path) -> None:
    """Removes the incomplete checkpoints of an interrupted `save`."""
    for path in half_written(folder):
        _remove(path)


def _put_in_place(aside: Path, target: Path) -> None:
    """Gives a complete checkpoint its name; an earlier one of that name stays complete until then."""
    replaced = target.with_name(f"{INCOMPLETE}replaced-{target.name}")
    if target.exists():
        _remove(replaced)
        target.rename(replaced)
    aside.rename(target)
    _remove(replaced)
    _sync(target.parent)


def _remove(path: Path) -> None:
    """Removes a folder, or a file or link in its place."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _remove_stray(aside: Path) -> None:
    """Removes a folder that Orbax created in place of one that was removed, and the empty folders around it."""
    shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(OSError):
        aside.parent.rmdir()
        aside.parent.parent.rmdir()


def _wait_for_all(what: str) -> None:
    if jax.process_count() > 1:
        sync_global_devices(f"checkpoint: {what}")


def _write_through(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _open_folder(folder: Path) -> Iterator[os.stat_result]:
    """The identity of a folder, kept open: otherwise a new folder may get the inode number of a removed one."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
