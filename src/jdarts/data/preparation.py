"""Prepares an image set in TFDS's format without TensorFlow, whole or not at all."""

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jdarts.data.catalogue import CATALOGUE, DIGITS, NAMES, Entry, check_name
from jdarts.data.originals.download import Progress
from jdarts.data.originals.finding import download_originals, read_originals, registered_files
from jdarts.data.originals.images import RawSet, RawSplit, expanded, os_errors_as_input
from jdarts.data.prepared import (
    Prepared,
    check_format,
    data_directory,
    find_prepared,
    prepare_command,
)
from jdarts.data.staging import SilentBuilder, move_into_place, staging_folder, write_records
from jdarts.errors import InputError


def prepare(
    name: str,
    *,
    source: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> Prepared:
    """Prepares an image set so that `jdarts.data.load` and plain `tfds.data_source` read it.

    The result has TFDS's name, version, features and order. It is built in a temporary folder and moved into place at
    the end, so an interruption or an error leaves no files behind.

    Args:
      name: One of `jdarts.data.NAMES` except `digits`, which needs no preparation.
      source: The original files, in a form that `read_originals` reads; None downloads them.
      data_dir: Folder of prepared sets; by default TFDS_DATA_DIR, or else ~/tensorflow_datasets.
      overwrite: Prepare the set again if it is already prepared.
      progress: Called with the name of the present work, the amount done and the total amount.

    Returns:
      The prepared set.

    Raises:
      InputError: The original files cannot be read or downloaded, or are damaged, or the disk cannot be write_records.
    """
    check_name(name, NAMES)
    if name == DIGITS:
        raise InputError(
            "digits is part of scikit-learn and needs no preparation; load it with: jdarts.data.load('digits')"
        )
    entry = CATALOGUE[name]
    if not overwrite and (prepared := find_prepared(name, entry, data_dir)):
        check_format(name, prepared, data_dir)
        return prepared
    import tensorflow_datasets as tfds

    stock = tfds.builder_cls(entry.tfds_name)
    registered = registered_files(stock)
    root = data_directory(data_dir)
    with staging_folder(root, entry.tfds_name) as staging:
        originals = expanded(source) if source else staging
        if not source:
            prepare_from = prepare_command(name, data_dir, "--from", "FOLDER")
            download_originals(name, registered, staging, prepare_from=prepare_from, progress=progress)
        raw = read_originals(name, originals, registered)
        _check_space(root, raw)
        built = _build(stock, entry, raw, staging, progress)
        with os_errors_as_input(root):
            move_into_place(built, root / entry.tfds_name / built.name, staging)
    prepared = find_prepared(name, entry, data_dir)
    assert prepared is not None
    return prepared


def _check_space(root: Path, raw: RawSet) -> None:
    needed = sum(split.images.nbytes for split in raw.splits.values())
    free = shutil.disk_usage(root).free
    if free < needed:
        raise InputError(
            f"{root} has {free / 1e6:,.0f} MB free, up to {needed / 1e6:,.0f} MB are needed; "
            "make room or choose another --data-dir"
        )


def _build(stock: Any, entry: Entry, raw: RawSet, staging: Path, progress: Progress) -> Path:
    """Writes the records below `staging` and returns their folder."""
    total = sum(len(split.images) for split in raw.splits.values())
    done = 0

    class Builder(SilentBuilder, stock, skip_registration=True):  # pyright: ignore
        """The stock builder, reading its original files without TensorFlow."""

        name = stock.name
        # TFDS looks for descriptions and checksums in the folder of this module.
        __module__ = stock.__module__

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            for label, names in raw.label_names.items():
                self.info.features[label].names = list(names)
            return {name: self._generate_examples(name, split) for name, split in raw.splits.items()}

        def _generate_examples(self, name: str, split: RawSplit) -> Iterator[tuple[int, dict[str, Any]]]:
            nonlocal done
            for index, image in enumerate(split.images):
                example: dict[str, Any] = {label: int(values[index]) for label, values in split.labels.items()}
                if "id" in self.info.features:
                    example["id"] = f"{name}_{index:0{entry.id_digits}d}"
                yield index, {**example, "image": io.BytesIO(_png(image))}
                done += 1
                if done % 1000 == 0 or done == total:
                    progress("writing images", done, total)

    return write_records(Builder, staging)


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()
