"""Folders that are built aside and take their place when they are whole."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jdarts.data.raw import os_errors_as_input


@contextlib.contextmanager
def staging_folder(root: Path, name: str) -> Iterator[Path]:
    """A temporary folder in `root` for a set of this name; `root/name` is made if need be and removed if it stays empty.

    Raises:
      InputError: the folders cannot be made.
    """
    home = root / name
    made = [folder for folder in (home, *home.parents) if not folder.exists()]
    try:
        with os_errors_as_input(root):
            home.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{name}-incomplete-", dir=root))
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def move_into_place(built: Path, place: Path, staging: Path) -> None:
    """Puts a whole set in its place; what lay there leaves together with `staging`."""
    old = staging / "old"
    if place.exists():
        place.rename(old)
    try:
        built.rename(place)
    except BaseException:
        if old.exists():
            old.rename(place)
        raise


@contextlib.contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keeps tensorflow-datasets from drawing progress bars of its own."""
    from tensorflow_datasets.core.utils import tqdm_utils

    # TFDS can set this switch but not tell it.
    before = getattr(tqdm_utils, "_active", True)
    tqdm_utils.display_progress_bar(False)
    try:
        yield
    finally:
        tqdm_utils.display_progress_bar(before)
