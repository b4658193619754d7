"""Image sets too large for memory: prepared by tensorflow-datasets as array_record, read image by image."""

import dataclasses
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jdarts.data.augmentation import Augmentation
from jdarts.data.catalogue import Entry
from jdarts.data.checksum import checksum
from jdarts.data.prepared import FILE_FORMAT, build_command, data_directory, find_prepared
from jdarts.data.records import Damage, class_names, open_records
from jdarts.data.streamed.views import decoded
from jdarts.errors import InputError

TRAIN, TEST = "train", "validation"
#: The side of the crops in the fingerprint of a set that decides it.
SIDE = "side"

# Mean and standard deviation as in the reference implementation.
_COMMON: dict[str, Any] = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "augmentation": Augmentation(flip=True),
}
LARGE: dict[str, Entry] = {
    "imagenet2012": Entry("imagenet2012", "ImageNet", {TRAIN: 1_281_167, TEST: 50_000}, **_COMMON),
    "imagenette": Entry("imagenette/full-size-v2", "Imagenette", {TRAIN: 9_469, TEST: 3_925}, **_COMMON),
}


class PictureFiles(Protocol):
    """A split on disk: labelled pictures as files, which any process can read."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int) -> tuple[bytes, int]: ...

    def decode(self, content: bytes) -> Any:
        """The picture of such a file, as Pillow has it, in red, green and blue."""
        ...

    def where(self, place: int) -> str:
        """What messages call a picture."""
        ...

    @property
    def labels(self) -> np.ndarray | None:
        """All labels, int32 `[N]`; None if only reading the pictures would give them."""
        ...


@dataclasses.dataclass(frozen=True)
class SomePictures:
    """Some pictures of a split.

    Attributes:
      split: the split.
      rows: int32 `[N]`, the places of its pictures.
    """

    split: PictureFiles
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[bytes, int]:
        """The file of a picture, and its label."""
        return self.split[int(self.rows[place])]

    def decode(self, content: bytes) -> Any:
        """The picture of a file."""
        return self.split.decode(content)

    def where(self, place: int) -> str:
        """What messages call a picture."""
        return self.split.where(int(self.rows[place]))

    @property
    def labels(self) -> np.ndarray | None:
        """All labels, int32 `[N]`, where they are known."""
        known = self.split.labels
        return None if known is None else known[self.rows]


@dataclasses.dataclass(frozen=True)
class LargeSplit:
    """A split on disk: labelled pictures as JPEG or PNG files.

    Each process opens the record files when it first reads a picture.

    Attributes:
      folder: the folder of the prepared set.
      name: the split's name.
      count: number of pictures.
      classes: number of classes.
    """

    folder: Path
    name: str
    count: int
    classes: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> tuple[bytes, int]:
        """The file of a picture, JPEG or PNG, and its label.

        Raises:
          InputError: the record cannot be read.
        """
        try:
            record = self._source()[place]
            image, label = record["image"], int(record["label"])
        # Record reader and record parser report damage with errors of many types.
        except Exception as error:
            raise InputError(f"{self.where(place)}, cannot be read; prepare the set again") from error
        if not 0 <= label < self.classes:
            raise InputError(
                f"{self.where(place)}, has the label {label}, labels are 0..{self.classes - 1}; prepare the set again"
            )
        return image, label

    def decode(self, content: bytes) -> Any:
        """The picture of a file, as its authors saved it."""
        return decoded(content)

    def where(self, place: int) -> str:
        """What messages call a picture."""
        return f"record {place} of {self.folder}, {self.name}"

    @property
    def labels(self) -> None:
        """Not known without the records, which have 150 GB."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_opened"}

    def _source(self) -> Any:
        if "_opened" not in self.__dict__:
            import tensorflow_datasets as tfds

            builder: Any = tfds.builder_from_directory(self.folder)
            decoders = {"image": tfds.decode.SkipDecoding()}
            self.__dict__["_opened"] = builder.as_data_source(self.name, decoders=decoders)
        return self.__dict__["_opened"]


@dataclasses.dataclass(frozen=True)
class LargeDataset:
    """An image set on disk with all that training on it needs.

    Attributes:
      name: one of `LARGE`, or that of a folder of the user's own.
      train: training images.
      test: test images: the split that the authors of the set call validation.
      class_names: one name per label.
      mean: per channel, on the scale 0..1.
      std: per channel, on the scale 0..1.
      augmentation: augmentation of training images inside the step.
      files: names and sizes in bytes of its files.
      side: side of the crops in pixels, if the set decides it; else the run does.
    """

    name: str
    train: PictureFiles
    test: PictureFiles
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation
    files: tuple[tuple[str, int], ...]
    side: int | None = None

    @property
    def fingerprint(self) -> dict[str, Any]:
        """JSON data that identifies this set, with a checksum of its files' names and sizes: those of ImageNet have 150 GB."""
        return {
            "name": self.name,
            "train": len(self.train),
            "test": len(self.test),
            "class_names": list(self.class_names),
            "mean": list(self.mean),
            "std": list(self.std),
            "augmentation": dataclasses.asdict(self.augmentation),
            "sha256": checksum(np.frombuffer(repr(self.files).encode(), np.uint8)),
            **({} if self.side is None else {SIDE: self.side}),
        }


def open_large(name: str, data_dir: str | os.PathLike[str] | None = None) -> LargeDataset:
    """Opens one of the sets `LARGE`. Never downloads, and reads no image.

    Args:
      name: its name.
      data_dir: folder of prepared sets; by default TFDS_DATA_DIR, or else ~/tensorflow_datasets.

    Raises:
      InputError: it is not prepared, or in another format, or its description is damaged.
    """
    entry = LARGE[name]
    prepared = find_prepared(name, entry, data_dir)
    place = data_directory(data_dir) / entry.tfds_name
    if prepared is None:
        raise InputError(f"{entry.title} is not prepared in {place}; {_mend(name, data_dir)}")
    if prepared.file_format != FILE_FORMAT:
        raise InputError(
            f"{prepared.folder} is prepared as {prepared.file_format}, which does not allow random access; "
            f"{_mend(name, data_dir)}"
        )
    for split in (TRAIN, TEST):
        if not prepared.counts.get(split):
            raise InputError(f"{prepared.folder} has no split {split!r}; {_mend(name, data_dir)}")
    try:
        builder = open_records(prepared.folder, (TRAIN, TEST))
        names = class_names(builder, prepared.folder)
    except Damage as damage:
        raise InputError(f"{damage}; {_mend(name, data_dir)}") from damage
    train, test = (LargeSplit(prepared.folder, split, prepared.counts[split], len(names)) for split in (TRAIN, TEST))
    files = [Path(path) for split in (TRAIN, TEST) for path in builder.info.splits[split].filepaths]
    sizes = tuple(sorted((file.name, file.stat().st_size) for file in files))
    return LargeDataset(name, train, test, names, entry.mean, entry.std, entry.augmentation, sizes)


def _mend(name: str, data_dir: str | os.PathLike[str] | None) -> str:
    command = build_command(LARGE[name].tfds_name, data_dir)
    manual = " --manual_dir=FOLDER, where FOLDER has ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar,"
    return (
        f"prepare it, in an environment that has TensorFlow, with: {command}{manual if name == 'imagenet2012' else ''} "
        "or give the --data-dir that has it"
    )
