"""Prepared sets are built in a temporary folder and moved into place when they are complete."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jdarts.data.originals.images import os_errors_as_input
from jdarts.data.prepared import FILE_FORMAT
from jdarts.errors import InputError
from jdarts.files.locked_folders import abandoned_folder, locked_folder

#: Names of temporary folders: the set's name and a random suffix.
_TEMPORARY = re.compile(r"\.(?P<name>[A-Za-z0-9_.-]+)-incomplete-[a-z0-9_]{8}")
_OLD = "old"


@contextlib.contextmanager
def staging_folder(root: Path, name: str) -> Iterator[Path]:
    """A temporary folder in `root` for a set. `root/name` is created too, and removed if it stays empty.

    Temporary folders of killed processes are removed first; a living process holds a lock on its own.

    Raises:
      InputError: the folders cannot be created.
    """
    set_folder = root / name
    with os_errors_as_input(root):
        created = [folder for folder in (set_folder, *set_folder.parents) if not folder.exists()]
    try:
        with contextlib.ExitStack() as stack:
            with os_errors_as_input(root):
                set_folder.mkdir(parents=True, exist_ok=True)
                _remove_left_overs(root)
                staging = stack.enter_context(locked_folder(root, f".{name}-incomplete-"))
            yield staging
    finally:
        for folder in created:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _remove_left_overs(root: Path) -> None:
    """Removes temporary folders without a lock; a set that was being replaced returns to its place."""
    for path in root.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        # A folder that cannot be locked or removed here, such as another user's, stays.
        with contextlib.suppress(OSError):
            if match:
                with abandoned_folder(path):
                    _put_back(path / _OLD, root / match["name"])


def _put_back(old_versions: Path, set_folder: Path) -> None:
    for old in old_versions.iterdir() if old_versions.is_dir() else ():
        if not (set_folder / old.name).exists():
            set_folder.mkdir(exist_ok=True)
            old.rename(set_folder / old.name)


def move_into_place(built: Path, place: Path, staging: Path) -> None:
    """Moves a complete set into its place; the old version there moves to `staging`, which is removed later."""
    old = staging / _OLD / place.name
    if place.exists():
        old.parent.mkdir()
        place.rename(old)
    try:
        built.rename(place)
    except BaseException:
        if old.exists():
            old.rename(place)
        raise


class SilentBuilder:
    """First base class of a builder whose caller shows its progress."""

    def _log_download_bytes(self) -> None:
        """Says nothing."""

    def _log_download_done(self) -> None:
        """Says nothing."""


def write_records(builder_class: Callable[..., Any], staging: Path) -> Path:
    """Writes the records of a builder below a folder.

    Args:
      builder_class: a builder class of tensorflow-datasets.
      staging: the folder.

    Returns:
      The folder of the records.

    Raises:
      InputError: the disk cannot be write_records.
    """
    import tensorflow_datasets as tfds

    with os_errors_as_input(staging), _no_progress_bars():
        builder = builder_class(data_dir=staging, file_format=FILE_FORMAT)
        try:
            builder.download_and_prepare(
                download_dir=staging / "downloads",
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
            )
        # TFDS's record writer reports a full disk in this way.
        except RuntimeError as error:
            reason = (str(error).splitlines() or ["no reason given"])[0][:200]
            raise InputError(
                f"cannot write below {staging.parent} ({reason}); make room there or choose another --data-dir"
            ) from error
    return Path(builder.data_path)


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Switches the progress bars of tensorflow-datasets off."""
    from tensorflow_datasets.core.utils import tqdm_utils

    # TFDS has a function that sets this switch, and none that reads it.
    before = getattr(tqdm_utils, "_active", True)
    tqdm_utils.display_progress_bar(False)
    try:
        yield
    finally:
        tqdm_utils.display_progress_bar(before)
