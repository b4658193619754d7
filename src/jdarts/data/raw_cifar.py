"""Reads the binary version of CIFAR-10 and CIFAR-100, as archive or unpacked."""

import dataclasses
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jdarts.data.raw import RawSet, RawSplit, check_labels, os_errors_as_input
from jdarts.errors import InputError

SIZE = 32
PIXEL_BYTES = 3 * SIZE * SIZE


@dataclasses.dataclass(frozen=True)
class CifarForm:
    """How one of the two sets lies on disk.

    Attributes:
      archive: File name of the official archive.
      folder: The folder inside it.
      splits: The record files of each split, in order.
      labels: Each label byte in front of the pixels, in order: its name, number of classes, file of names.
    """

    archive: str
    folder: str
    splits: Mapping[str, tuple[str, ...]]
    labels: tuple[tuple[str, int, str], ...]

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that a complete set has."""
        names = tuple(names for _, _, names in self.labels)
        return (*(file for files in self.splits.values() for file in files), *names)


CIFAR10 = CifarForm(
    archive="cifar-10-binary.tar.gz",
    folder="cifar-10-batches-bin",
    splits={
        "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        "test": ("test_batch.bin",),
    },
    labels=(("label", 10, "batches.meta.txt"),),
)
CIFAR100 = CifarForm(
    archive="cifar-100-binary.tar.gz",
    folder="cifar-100-binary",
    splits={"train": ("train.bin",), "test": ("test.bin",)},
    labels=(("coarse_label", 20, "coarse_label_names.txt"), ("label", 100, "fine_label_names.txt")),
)


def read_archive(archive: Path, form: CifarForm) -> RawSet:
    """Reads the official archive, whose checksum the caller has checked.

    Raises:
      InputError: It cannot be unpacked, or a file inside is missing or not whole.
    """
    contents: dict[str, bytes] = {}
    try:
        # In one pass: going back in a compressed file means unpacking it again from the start.
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                folder, _, file = member.name.rpartition("/")
                if folder == form.folder and file in form.files and (opened := tar.extractfile(member)):
                    contents[file] = opened.read()
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise InputError(f"{archive} cannot be unpacked ({error}); download it again") from error
    return _parse(contents, form, f"{archive}:{form.folder}")


def read_folder(folder: Path, form: CifarForm) -> RawSet:
    """Reads an unpacked archive. There is no checksum, but sizes and labels are checked.

    Raises:
      InputError: A file is missing or not whole.
    """
    with os_errors_as_input(folder):
        contents = {file: (folder / file).read_bytes() for file in form.files if (folder / file).is_file()}
    return _parse(contents, form, str(folder))


def _parse(contents: Mapping[str, bytes], form: CifarForm, place: str) -> RawSet:
    missing = [file for file in form.files if file not in contents]
    if missing:
        raise InputError(f"{place} has no {', '.join(missing)}; give a complete set or the archive itself")
    return RawSet(
        splits={
            split: _parse_split([(f"{place}/{file}", contents[file]) for file in files], form)
            for split, files in form.splits.items()
        },
        label_names={
            label: _parse_names(contents[file], classes, f"{place}/{file}") for label, classes, file in form.labels
        },
    )


def _parse_split(files: list[tuple[str, bytes]], form: CifarForm) -> RawSplit:
    """A record is its label bytes, then the red, the green and the blue plane, each row by row."""
    record_bytes = len(form.labels) + PIXEL_BYTES
    for path, content in files:
        if not content or len(content) % record_bytes:
            raise InputError(
                f"{path} has {len(content):,} bytes, which is no multiple of a record's {record_bytes:,}; "
                "it is cut off or of another set: unpack the archive again"
            )
        records = np.frombuffer(content, np.uint8).reshape(-1, record_bytes)
        for place, (_, classes, _) in enumerate(form.labels):
            check_labels(records[:, place], classes, path)
    records = np.frombuffer(b"".join(content for _, content in files), np.uint8).reshape(-1, record_bytes)
    planes = records[:, len(form.labels) :].reshape(-1, 3, SIZE, SIZE)
    return RawSplit(
        images=planes.transpose(0, 2, 3, 1),
        labels={label: records[:, place] for place, (label, _, _) in enumerate(form.labels)},
    )


def _parse_names(content: bytes, classes: int, path: str) -> tuple[str, ...]:
    names = tuple(content.decode("utf-8", "replace").split())
    if len(names) != classes:
        raise InputError(f"{path} holds {len(names)} class names, expected {classes}; it is of another set")
    return names
