"""Folders that are built aside and take their place when they are whole."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jdarts.data.originals.images import os_errors_as_input
from jdarts.data.prepared import FILE_FORMAT
from jdarts.errors import InputError
from jdarts.files.locked_folders import left_over, locked_folder

#: Names of temporary folders: the set's name and what tells folders of one name apart.
_TEMPORARY = re.compile(r"\.(?P<name>[A-Za-z0-9_.-]+)-incomplete-[a-z0-9_]{8}")
_OLD = "old"


@contextlib.contextmanager
def staging_folder(root: Path, name: str) -> Iterator[Path]:
    """A temporary folder in `root` for a set of this name; `root/name` is made if need be and removed if it stays empty.

    Temporary folders of processes that were killed are removed first. A process locks its own as long as it lives.

    Raises:
      InputError: the folders cannot be made.
    """
    home = root / name
    with os_errors_as_input(root):
        made = [folder for folder in (home, *home.parents) if not folder.exists()]
    try:
        with contextlib.ExitStack() as held:
            with os_errors_as_input(root):
                home.mkdir(parents=True, exist_ok=True)
                _remove_left_overs(root)
                staging = held.enter_context(locked_folder(root, f".{name}-incomplete-"))
            yield staging
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _remove_left_overs(root: Path) -> None:
    """Removes temporary folders that no process has locked; a set that one was about to replace returns to its place."""
    for path in root.iterdir():
        found = _TEMPORARY.fullmatch(path.name)
        # A folder that cannot be locked or removed here, such as another user's, stays.
        with contextlib.suppress(OSError):
            if found:
                with left_over(path):
                    _put_back(path / _OLD, root / found["name"])


def _put_back(old_versions: Path, home: Path) -> None:
    for old in old_versions.iterdir() if old_versions.is_dir() else ():
        if not (home / old.name).exists():
            home.mkdir(exist_ok=True)
            old.rename(home / old.name)


def move_into_place(built: Path, place: Path, staging: Path) -> None:
    """Puts a whole set in its place; what lay there leaves together with `staging`."""
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
    """Comes first among the bases of a builder whose progress is shown by the caller."""

    def _log_download_bytes(self) -> None:
        """Says nothing."""

    def _log_download_done(self) -> None:
        """Says nothing."""


def written(builder_class: Callable[..., Any], staging: Path) -> Path:
    """Lets a builder write its records below a folder.

    Args:
      builder_class: a class of tensorflow-datasets' builders.
      staging: the folder.

    Returns:
      The folder of the records.

    Raises:
      InputError: the disk refuses.
    """
    import tensorflow_datasets as tfds

    with os_errors_as_input(staging), _no_progress_bars():
        builder = builder_class(data_dir=staging, file_format=FILE_FORMAT)
        try:
            builder.download_and_prepare(
                download_dir=staging / "downloads",
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
            )
        # So TFDS's record writer reports a full disk.
        except RuntimeError as error:
            reason = (str(error).splitlines() or ["no reason given"])[0][:200]
            raise InputError(
                f"cannot write below {staging.parent} ({reason}); make room there or choose another --data-dir"
            ) from error
    return Path(builder.data_path)


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keeps tensorflow-datasets from drawing progress bars of its own."""
    from tensorflow_datasets.core.utils import tqdm_utils

    # TFDS can set this switch but not tell it.
    before = getattr(tqdm_utils, "_active", True)
    tqdm_utils.display_progress_bar(False)
    try:
        yield
    finally:
        tqdm_utils.display_progress_bar(before)
