"""Opens the records of a prepared set through tensorflow-datasets, and checks their description first."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jdarts.data.checks import check_class_names
from jdarts.data.originals.images import os_errors_as_input

#: Limits far above the descriptions of real sets.
MAX_DESCRIPTION_BYTES = 1 << 22
MAX_CLASSES = 1_000_000
_MAX_DIGITS = 18
#: TFDS imports the module of every feature that a description names: only modules of this package are allowed.
_FEATURES = "tensorflow_datasets."


class Damage(Exception):
    """A prepared set cannot be read.

    Attributes:
      path: the damaged or missing file or folder.
      reason: details; may be empty.
    """

    def __init__(self, path: Path, reason: str = "") -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        state = "is damaged" if self.path.exists() else "is missing"
        return f"{self.path} {state}" + (f" ({self.reason})" if self.reason else "")


def read_info(path: Path) -> tuple[dict[str, int], str]:
    """Number of records per split, and TFDS's name of their file format, from a `dataset_info.json`.

    Raises:
      Damage: the file is damaged or missing.
      InputError: the file cannot be read.
    """
    info = _read_json(path)
    try:
        splits = {
            _text(split["name"]): sum(map(_count, _list(split["shardLengths"]))) for split in _list(info["splits"])
        }
        return splits, _text(info.get("fileFormat", "tfrecord"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damage(path) from error


def open_records(folder: Path, splits: Sequence[str]) -> Any:
    """TFDS's builder of a prepared set, after a check that all record files exist and have the described length.

    Raises:
      Damage: a description or a file is damaged or missing.
      InputError: a description cannot be read.
    """
    _check_features(folder / "features.json")
    for path in folder.glob("*.txt"):
        with os_errors_as_input(path):
            if path.stat().st_size > MAX_DESCRIPTION_BYTES:
                raise Damage(path, f"it has more than {MAX_DESCRIPTION_BYTES:,} bytes")
    import tensorflow_datasets as tfds

    try:
        builder: Any = tfds.builder_from_directory(folder)
        described = [builder.info.splits[split] for split in splits]
        shards = [
            pair for each in described for pair in zip(map(Path, each.filepaths), each.shard_lengths, strict=True)
        ]
    # TFDS and its parsers report a damaged description with errors of many types.
    except Exception as error:
        raise Damage(folder) from error
    for file, length in shards:
        # A record has at least one byte.
        if not file.is_file() or length > file.stat().st_size:
            raise Damage(file)
        if (found := _count_records(file)) not in (length, None):
            raise Damage(file, f"it has {found:,} records, {length:,} are described")
    return builder


def class_names(builder: Any, folder: Path) -> tuple[str, ...]:
    """The names of a set's classes.

    Raises:
      Damage: the set's files contradict each other.
    """
    features = folder / "features.json"
    try:
        names = tuple(builder.info.features["label"].names)
        check_class_names(names)
    # A feature that is not a label has no names.
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Damage(features) from error
    described: Any = _read_json(features)
    for key in ("featuresDict", "features", "label", "classLabel", "numClasses"):
        described = described.get(key) if isinstance(described, dict) else None
    if described is not None and _count(described) != len(names):
        raise Damage(features, f"it has {described} classes, there are names of {len(names)}")
    file = folder / "label.labels.txt"
    with os_errors_as_input(file):
        written = file.read_text("utf-8", "replace").split("\n") if file.is_file() else names
    if (count := sum(bool(line.strip()) for line in written)) != len(names):
        raise Damage(file, f"it has {count} names of {len(names)} classes")
    return names


def _count_records(file: Path) -> int | None:
    """Number of records of a file; None if the file is damaged, which shows when its records are read."""
    from array_record.python.array_record_module import ArrayRecordReader  # pyright: ignore[reportMissingImports]

    try:
        reader = ArrayRecordReader(str(file), options="readahead_buffer_size:0", file_reader_buffer_size=1 << 15)
        count = reader.num_records()
        reader.close()
    # What pybind11 makes of the exceptions of the reader, which is written in C++.
    except (RuntimeError, ValueError, IndexError, OverflowError, MemoryError):
        return None
    return count


def _check_features(path: Path) -> None:
    """Checks the modules that TFDS would import and the numbers of classes that it would allocate."""
    pending = [_read_json(path)]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            for key in ("pythonClassName", "type"):
                name = value.get(key, _FEATURES)
                if not isinstance(name, str) or not name.startswith(_FEATURES):
                    raise Damage(path, f"it has the feature {str(name)[:80]!r}")
            try:
                classes = _count(value.get("numClasses", 0))
            except (ValueError, TypeError) as error:
                raise Damage(path) from error
            if classes > MAX_CLASSES:
                raise Damage(path, f"it has {classes:,} classes")
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise Damage(path)
    with os_errors_as_input(path), path.open("rb") as file:
        content = file.read(MAX_DESCRIPTION_BYTES + 1)
    if len(content) > MAX_DESCRIPTION_BYTES:
        raise Damage(path, f"it has more than {MAX_DESCRIPTION_BYTES:,} bytes")
    try:
        return json.loads(content)
    # Deeply nested lists raise a RecursionError.
    except (ValueError, RecursionError) as error:
        raise Damage(path) from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(value)
    return value


def _count(value: Any) -> int:
    """A count; protocol buffers write 64-bit integers as texts."""
    if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)[:100]) > _MAX_DIGITS:
        raise TypeError(value)
    if (count := int(value)) < 0:
        raise ValueError(value)
    return count
