"""A data set that the Hugging Face package `datasets` has saved to a folder."""

import functools
from pathlib import Path
from typing import Any

from jdarts.data.own.pictures import SPLIT_NAMES, TRAIN, Picture, Pictures, listed, usual_or_only
from jdarts.errors import InputError, one_line

_MARKS = ("dataset_dict.json", "state.json")


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return any((path / mark).is_file() for mark in _MARKS)


def saved_pictures(path: Path) -> Pictures:
    """The pictures of a folder that `save_to_disk` wrote.

    Raises:
      InputError: `datasets` is not installed, or the folder is damaged or holds no labelled images.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            f"{path} is a folder of Hugging Face datasets, and that package is missing ({error}); run: pip install datasets"
        ) from None
    try:
        loaded: Any = datasets.load_from_disk(str(path))
    # The package reports a damaged folder with errors of many types.
    except Exception as error:
        raise InputError(
            f"{path} cannot be read by Hugging Face datasets ({one_line(error)}); save it again"
        ) from error
    parts = dict(loaded) if isinstance(loaded, dict) else {TRAIN: loaded}
    splits = {name: SPLIT_NAMES[name] for name, part in parts.items() if name in SPLIT_NAMES and len(part)}
    if TRAIN not in splits.values():
        raise InputError(f"{path} has the splits {listed(parts)}; one must be called train")
    features = parts[next(name for name, split in splits.items() if split == TRAIN)].features
    image, label = _columns(path, features, datasets)

    def find() -> dict[str, list[Picture]]:
        return {
            split: _rows(parts[name].cast_column(image, datasets.Image(decode=False)), name, image, label)
            for name, split in splits.items()
        }

    files = sorted(file for file in path.rglob("*") if file.is_file())
    identity = [(str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return Pictures("a folder of Hugging Face datasets", find, tuple(features[label].names), (), identity)


def _columns(path: Path, features: Any, datasets: Any) -> tuple[str, str]:
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    label = usual_or_only(labels, "label")
    if len(images) != 1 or label is None:
        raise InputError(
            f"{path} has the columns {listed(features)}; it needs one column of type Image and one of type ClassLabel "
            "(class_encode_column makes one)"
        )
    return images[0], label


def _rows(part: Any, name: str, image: str, label: str) -> list[Picture]:
    return [
        Picture(f"{name}[{row}]", int(number), functools.partial(_content, part, row, image))
        for row, number in enumerate(part[label])
    ]


def _content(part: Any, row: int, image: str) -> bytes:
    """The file of a picture, which is in the table or beside it."""
    cell = part[row][image]
    return Path(cell["path"]).read_bytes() if cell["bytes"] is None else cell["bytes"]
