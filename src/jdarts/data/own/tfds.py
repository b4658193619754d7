"""Any image set that tensorflow-datasets has prepared as array_record, without TensorFlow."""

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jdarts.data.originals.images import os_errors_as_input
from jdarts.data.own.pictures import SPLIT_NAMES, TRAIN, Picture, Pictures, listed, usual_or_only
from jdarts.data.prepared import FILE_FORMAT, Prepared, build_command, data_directory, newest_version
from jdarts.data.records import Damage, open_records
from jdarts.errors import InputError
from jdarts.files.machine_memory import available_bytes

_VERSIONS = "[0-9]*/dataset_info.json"
#: Share of the free memory that the undecoded pictures may take.
_SHARE = 0.4


def is_prepared(name: str, data_dir: Any = None) -> bool:
    """Whether there is a prepared version of a set, such as `mnist` or `imagenet_resized/32x32`."""
    root = data_directory(data_dir) / name
    with os_errors_as_input(root):
        return re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) is not None and any(root.glob(_VERSIONS))


def configurations(name: str, data_dir: Any = None) -> list[str]:
    """Names of the prepared configurations of a set, as in `imagenette/160px-v2`."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        return []
    root = data_directory(data_dir) / name
    with os_errors_as_input(root):
        return sorted({f"{name}/{path.parents[1].name}" for path in root.glob(f"*/{_VERSIONS}")})


def prepared_pictures(name: str, data_dir: Any = None) -> Pictures:
    """The pictures of a prepared set, in the order of its files. Their records are read when the pictures are needed.

    Args:
      name: its name, with its configuration if it has one.
      data_dir: folder of prepared sets; by default TFDS_DATA_DIR, or else ~/tensorflow_datasets.

    Raises:
      InputError: it is damaged, in another format, too large for memory, or no set of labelled images.
    """
    mend = build_command(name, data_dir)
    with _damage_as_input(mend):
        found = newest_version(data_directory(data_dir) / name)
        if found is None:
            raise InputError(f"{name} is not prepared in {data_directory(data_dir) / name}; prepare it with: {mend}")
        if found.file_format != FILE_FORMAT:
            raise InputError(
                f"{found.folder} is prepared as {found.file_format}, which only TensorFlow reads; prepare it with: {mend} "
                "--overwrite"
            )
        return _pictures(name, found, mend)


@contextlib.contextmanager
def _damage_as_input(mend: str) -> Iterator[None]:
    """Turns damage into an `InputError` with the command that prepares the set."""
    try:
        yield
    except Damage as damage:
        raise InputError(f"{damage}; prepare the set again with: {mend} --overwrite") from damage


def _pictures(name: str, found: Prepared, mend: str) -> Pictures:
    splits = {split: SPLIT_NAMES[split] for split, count in found.counts.items() if count and split in SPLIT_NAMES}
    if TRAIN not in splits.values():
        raise InputError(
            f"{name} has the splits {listed(found.counts)} and no train; prepare a set of labelled images to train on"
        )
    builder = open_records(found.folder, tuple(splits))
    image, label = _features(name, builder.info.features)
    names = tuple(map(str, builder.info.features[label].names))
    files = [Path(path) for split in splits for path in builder.info.splits[split].filepaths]
    sizes = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    available = available_bytes()
    if available is not None and sum(size for _, size, _ in sizes) > _SHARE * available:
        raise InputError(f"{name} has {sum(size for _, size, _ in sizes) / 1e9:,.0f} GB, more than memory holds")

    def find() -> dict[str, list[Picture]]:
        with _damage_as_input(mend):
            return {to: _records(builder, split, image, label) for split, to in splits.items()}

    kind = f"{name} {found.folder.name}, prepared by tensorflow-datasets"
    return Pictures(kind, find, names, (), sorted(sizes))


def _features(name: str, features: Mapping[str, Any]) -> tuple[str, str]:
    """The names of the image and of the class in the records."""
    import tensorflow_datasets as tfds

    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    image, label = usual_or_only(images, "image"), usual_or_only(labels, "label")
    if image is None or label is None:
        raise InputError(
            f"{name} has the features {listed(features)}; a set of labelled images has an image and a label"
        )
    return image, label


def _records(builder: Any, split: str, image: str, label: str) -> list[Picture]:
    import tensorflow_datasets as tfds

    try:
        source = builder.as_data_source(split, decoders={image: tfds.decode.SkipDecoding()})
        records = source.__getitems__(range(len(source)))
        return [
            Picture(f"{split}[{row}]", int(np.asarray(record[label])), functools.partial(bytes, record[image]))
            for row, record in enumerate(records)
        ]
    except MemoryError:
        raise
    # Record reader and record parser report damage with errors of many types.
    except Exception as error:
        raise Damage(Path(builder.data_path)) from error
