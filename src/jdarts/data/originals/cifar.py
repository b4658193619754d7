"""Reads the binary version of CIFAR-10 and CIFAR-100, as archive or unpacked."""

import dataclasses
import itertools
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jdarts.data.checks import check_class_names
from jdarts.data.originals.images import RawSet, RawSplit, check_labels, os_errors_as_input, read_bounded
from jdarts.data.originals.unpacking import GZIP, Unpacked
from jdarts.errors import InputError

SIZE = 32
PIXEL_BYTES = 3 * SIZE * SIZE
#: Generous bounds of a file of class names, of an archive's members, and of what stands between them.
MOST_NAME_BYTES = 1 << 16
MOST_MEMBERS = 100
MOST_FRAME_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class CifarForm:
    """How one of the two sets lies on disk.

    Attributes:
      archive: File name of the official archive.
      folder: The folder inside it.
      splits: The record files of each split, in order.
      most_records: Records of the largest file.
      labels: Each label byte in front of the pixels, in order: its name, number of classes, file of names.
    """

    archive: str
    folder: str
    splits: Mapping[str, tuple[str, ...]]
    most_records: int
    labels: tuple[tuple[str, int, str], ...]

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that a complete set has."""
        names = tuple(names for _, _, names in self.labels)
        return (*(file for files in self.splits.values() for file in files), *names)

    def most_bytes(self, file: str) -> int:
        """Size that a file of this name may have."""
        is_text = any(file == names for _, _, names in self.labels)
        return MOST_NAME_BYTES if is_text else self.most_records * (len(self.labels) + PIXEL_BYTES)


CIFAR10 = CifarForm(
    archive="cifar-10-binary.tar.gz",
    folder="cifar-10-batches-bin",
    splits={
        "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        "test": ("test_batch.bin",),
    },
    most_records=10_000,
    labels=(("label", 10, "batches.meta.txt"),),
)
CIFAR100 = CifarForm(
    archive="cifar-100-binary.tar.gz",
    folder="cifar-100-binary",
    splits={"train": ("train.bin",), "test": ("test.bin",)},
    most_records=50_000,
    labels=(("coarse_label", 20, "coarse_label_names.txt"), ("label", 100, "fine_label_names.txt")),
)


def read_archive(archive: Path, form: CifarForm) -> RawSet:
    """Reads the official archive, whose checksum the caller has checked.

    Raises:
      InputError: It cannot be unpacked, or a file inside is missing or not whole.
    """
    contents: dict[str, bytes] = {}
    most = sum(map(form.most_bytes, form.files)) + MOST_FRAME_BYTES
    with os_errors_as_input(archive), archive.open("rb") as packed:
        try:
            # In one pass: going back in a compressed file means unpacking it again from the start.
            stream: Any = Unpacked(packed, GZIP, most=most)
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in itertools.islice(tar, MOST_MEMBERS):
                    folder, _, file = member.name.rpartition("/")
                    if folder == form.folder and file in form.files and member.isreg():
                        contents[file] = _content(tar, member, form.most_bytes(file))
        # A damaged header surprises tarfile in many ways.
        except (
            tarfile.TarError,
            EOFError,
            zlib.error,
            ValueError,
            ArithmeticError,
            LookupError,
            RecursionError,
        ) as error:
            raise InputError(f"{archive} cannot be unpacked ({error}); download it again") from error
    return _parse(contents, form, f"{archive}:{form.folder}")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    if member.size > most:
        raise EOFError(f"{member.name} has {member.size:,} bytes, {most:,} at the most are expected")
    opened = tar.extractfile(member)
    return opened.read() if opened else b""


def read_folder(folder: Path, form: CifarForm) -> RawSet:
    """Reads an unpacked archive. There is no checksum, but sizes and labels are checked.

    Raises:
      InputError: A file is missing or not whole.
    """
    with os_errors_as_input(folder):
        present = [file for file in form.files if (folder / file).is_file()]
    contents = {file: read_bounded(folder / file, form.most_bytes(file)) for file in present}
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
            check_labels(records[:, place], range(classes), path)
    records = np.frombuffer(b"".join(content for _, content in files), np.uint8).reshape(-1, record_bytes)
    planes = records[:, len(form.labels) :].reshape(-1, 3, SIZE, SIZE)
    return RawSplit(
        images=planes.transpose(0, 2, 3, 1),
        labels={label: records[:, place] for place, (label, _, _) in enumerate(form.labels)},
    )


def _parse_names(content: bytes, classes: int, path: str) -> tuple[str, ...]:
    names = tuple(content.decode("utf-8", "replace").split())
    if len(names) != classes:
        raise InputError(
            f"{path} holds {len(names)} class names, expected {classes}; it is damaged or of another set: get it again"
        )
    try:
        check_class_names(names)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return names
