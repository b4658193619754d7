"""Finds and reads image sets that are prepared in TFDS's format."""

import dataclasses
import io
import math
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jdarts.data.catalogue import Entry
from jdarts.data.dataset import ImageDataset, ImageSplit
from jdarts.data.originals.images import expanded, os_errors_as_input
from jdarts.data.records import Damage, class_names, open_records, read_info
from jdarts.errors import InputError

FILE_FORMAT = "array_record"
SPLITS = ("train", "test")
#: A set that is loaded into memory as a whole has fewer.
MAX_IMAGE_BYTES = 1 << 32


class CatalogueEntry(Protocol):
    """An entry of a catalogue, with the name of the set's folder."""

    @property
    def tfds_name(self) -> str: ...  # noqa: D102


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared set on disk.

    Attributes:
      folder: The folder of its files, `DATA_DIR/TFDS_NAME/VERSION`.
      counts: Number of images or lines per split.
      file_format: TFDS's name of the format of its record files.
    """

    folder: Path
    counts: Mapping[str, int]
    file_format: str


def data_directory(data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of prepared sets: as given, or else TFDS_DATA_DIR, or else ~/tensorflow_datasets."""
    folder = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return expanded(folder)


def prepare_command(name: str, data_dir: str | os.PathLike[str] | None, *options: str) -> str:
    """The command that prepares a set, for messages."""
    where = ["--data-dir", os.fspath(data_dir)] if data_dir else []
    return shlex.join(["python", "-m", "jdarts.data", "prepare", name, *options, *where])


def build_command(tfds_name: str, data_dir: str | os.PathLike[str] | None) -> str:
    """The command of tensorflow-datasets that prepares a set in a form that is read without TensorFlow, for messages."""
    where = ["--data_dir", os.fspath(data_dir)] if data_dir else []
    return shlex.join(["tfds", "build", tfds_name, f"--file_format={FILE_FORMAT}", *where])


def find_prepared(name: str, entry: CatalogueEntry, data_dir: str | os.PathLike[str] | None = None) -> Prepared | None:
    """Looks for the newest prepared version of a set, without the network and without TFDS.

    Raises:
      InputError: Its description cannot be read.
    """
    try:
        return newest_version(data_directory(data_dir) / entry.tfds_name)
    except Damage as damage:
        raise _damaged(name, damage, data_dir) from damage


def newest_version(root: Path) -> Prepared | None:
    """The newest prepared version below the folder of a set; None if there is none.

    Raises:
      Damage: its description is damaged.
      InputError: the folder cannot be read.
    """
    with os_errors_as_input(root):
        infos = [
            path
            for path in (root.glob("*/dataset_info.json") if root.is_dir() else ())
            if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
        ]
    if not infos:
        return None
    newest = max(infos, key=lambda path: tuple(int(part) for part in path.parent.name.split(".")))
    counts, file_format = read_info(newest)
    return Prepared(folder=newest.parent, counts=counts, file_format=file_format)


def load_prepared(name: str, entry: Entry, data_dir: str | os.PathLike[str] | None) -> ImageDataset:
    """Reads a prepared set into memory; CIFAR and SVHN are in their official file order.

    Raises:
      InputError: The set is not prepared, or in another format, or its files are damaged.
    """
    found = find_prepared(name, entry, data_dir)
    if found is None:
        raise InputError(
            f"{entry.title} is not prepared in {data_directory(data_dir) / entry.tfds_name}; "
            f"prepare it with: {prepare_command(name, data_dir)}"
        )
    check_format(name, found, data_dir)
    try:
        builder = open_records(found.folder, SPLITS)
        _check_shape(builder, found)
        train, test = (_read_split(builder, split) for split in SPLITS)
        return ImageDataset(
            name=name,
            train=train,
            test=test,
            class_names=class_names(builder, found.folder),
            mean=entry.mean,
            std=entry.std,
            augmentation=entry.augmentation,
            shuffled=True,
        )
    except Damage as damage:
        raise _damaged(name, damage, data_dir) from damage
    except InputError as error:
        raise _damaged(name, Damage(found.folder, str(error)), data_dir) from error


def check_format(name: str, found: Prepared, data_dir: str | os.PathLike[str] | None) -> None:
    """Raises an `InputError` unless a prepared set can be read in any order and without TensorFlow."""
    if found.file_format != FILE_FORMAT:
        raise InputError(
            f"{found.folder} is prepared as {found.file_format}, which only TensorFlow reads; "
            f"replace it with: {prepare_command(name, data_dir, '--overwrite')} "
            "(or keep it and choose another --data-dir)"
        )


def _check_shape(builder: Any, found: Prepared) -> None:
    """Checks that all images have the same shape and fit into memory."""
    path = found.folder / "features.json"
    try:
        sizes = [int(size) for size in builder.info.features["image"].shape]
    # A feature of another kind has no such shape.
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Damage(path) from error
    if min(sizes) < 1 or math.prod(sizes) * sum(found.counts.values()) > MAX_IMAGE_BYTES:
        raise Damage(path, f"images have the shape {sizes}")


def _read_split(builder: Any, split: str) -> ImageSplit:
    import tensorflow_datasets as tfds

    shape = builder.info.features["image"].shape
    size = builder.info.splits[split].num_examples
    decoders = {"image": tfds.decode.SkipDecoding()}
    try:
        source = builder.as_data_source(split, decoders=decoders)
        records = source.__getitems__(range(size))
        images = np.stack([_decode(record["image"], shape) for record in records])
        labels = np.array([record["label"] for record in records], np.int32)
        # TFDS stores the images shuffled; their ids are numbered in the order of the official file.
        if all("id" in record for record in records):
            order = np.argsort(np.array([record["id"] for record in records]))
            images, labels = images[order], labels[order]
        return ImageSplit(images, labels)
    except MemoryError:
        raise
    # Record reader, record parser and image decoder report damage with errors of many types.
    except Exception as error:
        raise Damage(Path(builder.data_path)) from error


def _decode(content: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    from PIL import Image

    height, width, channels = shape
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        # The check comes before decoding: a small file may hold a huge picture.
        if image.size != (width, height):
            raise ValueError(image.size)
        return np.asarray(image).reshape(height, width, channels)


def _damaged(name: str, damage: Damage, data_dir: str | os.PathLike[str] | None) -> InputError:
    return InputError(f"{damage}; prepare the set again with: {prepare_command(name, data_dir, '--overwrite')}")
