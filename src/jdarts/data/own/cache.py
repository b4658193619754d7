"""Decoded image sets in the user's cache folder, so that a run on the same files begins at once."""

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jdarts.data.augmentation import Augmentation
from jdarts.data.dataset import ImageDataset, ImageSplit
from jdarts.data.own.pictures import Problem
from jdarts.errors import InputError
from jdarts.files.atomic import replace_bytes
from jdarts.files.user_cache import cache_folder, is_private_file, private_folder

#: Part of every key: raise it when the same files would give other images.
FORMAT = 3
#: Largest set that is kept, and the largest sum of all, in bytes.
_LARGEST, _LARGEST_SUM = 1 << 30, 4 << 30

_log = logging.getLogger(__name__)


def cache_key(*parts: object) -> str:
    """A text for all that decides the images of a set: JSON data such as paths, sizes and times of files."""
    import PIL

    content = json.dumps([FORMAT, PIL.__version__, *parts])
    return hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()


def read_cached(key: str, name: str) -> tuple[ImageDataset, tuple[str, ...]] | None:
    """The set that was kept under a key, and its notes; None if there is none, or if it is damaged.

    Args:
      key: of `cache_key`.
      name: the name that the set gets.
    """
    try:
        path = _folder() / f"{key}.npz"
        if not is_private_file(path):
            return None
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            content: Any = json.loads(arrays["content"].tobytes())
            train, test = (ImageSplit(arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in _SPLITS)
        path.touch()
        augmentation = Augmentation(**content.pop("augmentation"))
        notes = tuple(content.pop("notes"))
        return ImageDataset(name=name, train=train, test=test, augmentation=augmentation, **content), notes
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, InputError):
        return None


def keep(key: str, dataset: ImageDataset, notes: tuple[str, ...]) -> None:
    """Keeps a set under a key, unless it is large; removes the sets that were not used for longest.

    A cache folder that cannot be written is no error: a log line says so.
    """
    if dataset.train.images.nbytes + dataset.test.images.nbytes > _LARGEST:
        return
    content = {name: getattr(dataset, name) for name in ("class_names", "mean", "std", "shuffled", "test_names")}
    content |= {"augmentation": dataclasses.asdict(dataset.augmentation), "notes": notes}
    arrays: dict[str, Any] = {"content": np.frombuffer(json.dumps(content).encode(), np.uint8)}
    for split in _SPLITS:
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = getattr(dataset, split)[:]
    file = io.BytesIO()
    np.savez(file, **arrays)
    try:
        folder = _folder()
        _make_room(folder, file.tell())
        replace_bytes(folder / f"{key}.npz", file.getvalue())
    except OSError as error:
        _log.warning("decoded images are not kept for the next start (%s)", error)


def read_problems(key: str) -> tuple[Problem, ...] | None:
    """The problems that were kept under a key; None if there are none, or if they are damaged."""
    try:
        path = _folder() / f"{key}.json"
        if not is_private_file(path):
            return None
        found = json.loads(path.read_bytes())
        return tuple(Problem(str(name), str(reason)) for name, reason in found)
    except (OSError, ValueError, TypeError, InputError):
        return None


def keep_problems(key: str, problems: Sequence[Problem]) -> None:
    """Keeps problems under a key; a cache folder that cannot be written is no error."""
    try:
        replace_bytes(_folder() / f"{key}.json", json.dumps(problems).encode())
    except OSError as error:
        _log.warning("the check of the pictures is not kept for the next start (%s)", error)


_SPLITS = ("train", "test")


def _folder() -> Path:
    return private_folder(private_folder(cache_folder()) / "images")


def _make_room(folder: Path, size: int) -> None:
    kept = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in kept:
        size += path.stat().st_size
        if size > _LARGEST_SUM:
            with contextlib.suppress(OSError):
                path.unlink()
