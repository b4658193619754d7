"""Reads the binary version of CIFAR-10 and CIFAR-100, from the archive or an unpacked folder."""

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
#: Generous limits: bytes of a file of class names, members of an archive, bytes of its headers and padding.
MAX_NAME_BYTES = 1 << 16
MAX_MEMBERS = 100
MAX_FRAME_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class CifarForm:
    """The files of one of the two sets.

    Attributes:
      archive: File name of the official archive.
      folder: The folder inside it.
      splits: The record files of each split, in order.
      max_records: Records of the largest file.
      labels: Each label byte before the pixels, in order: its name, number of classes, file of class names.
    """

    archive: str
    folder: str
    splits: Mapping[str, tuple[str, ...]]
    max_records: int
    labels: tuple[tuple[str, int, str], ...]

    @property
    def files(self) -> tuple[str, ...]:
        """All files of a complete set."""
        names = tuple(names for _, _, names in self.labels)
        return (*(file for files in self.splits.values() for file in files), *names)

    def max_bytes(self, file: str) -> int:
        """Largest allowed size of a file of this name."""
        is_text = any(file == names for _, _, names in self.labels)
        return MAX_NAME_BYTES if is_text else self.max_records * (len(self.labels) + PIXEL_BYTES)


CIFAR10 = CifarForm(
    archive="cifar-10-binary.tar.gz",
    folder="cifar-10-batches-bin",
    splits={
        "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        "test": ("test_batch.bin",),
    },
    max_records=10_000,
    labels=(("label", 10, "batches.meta.txt"),),
)
CIFAR100 = CifarForm(
    archive="cifar-100-binary.tar.gz",
    folder="cifar-100-binary",
    splits={"train": ("train.bin",), "test": ("test.bin",)},
    max_records=50_000,
    labels=(("coarse_label", 20, "coarse_label_names.txt"), ("label", 100, "fine_label_names.txt")),
)


def read_archive(archive: Path, form: CifarForm) -> RawSet:
    """Reads the official archive, after the caller has checked its checksum.

    Raises:
      InputError: It cannot be unpacked, or a file in it is missing or incomplete.
    """
    contents: dict[str, bytes] = {}
    max_bytes = sum(map(form.max_bytes, form.files)) + MAX_FRAME_BYTES
    with os_errors_as_input(archive), archive.open("rb") as packed:
        try:
            # One pass: a seek backwards in a compressed file unpacks it again from the start.
            stream: Any = Unpacked(packed, GZIP, max_bytes=max_bytes)
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in itertools.islice(tar, MAX_MEMBERS):
                    folder, _, file = member.name.rpartition("/")
                    if folder == form.folder and file in form.files and member.isreg():
                        contents[file] = _content(tar, member, form.max_bytes(file))
        # A damaged header makes tarfile raise errors of many types.
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


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, max_bytes: int) -> bytes:
    if member.size > max_bytes:
        raise EOFError(f"{member.name} has {member.size:,} bytes, at most {max_bytes:,} are expected")
    file = tar.extractfile(member)
    return file.read() if file else b""


def read_folder(folder: Path, form: CifarForm) -> RawSet:
    """Reads an unpacked archive. It has no checksum, but sizes and labels are checked.

    Raises:
      InputError: A file is missing or incomplete.
    """
    with os_errors_as_input(folder):
        present = [file for file in form.files if (folder / file).is_file()]
    contents = {file: read_bounded(folder / file, form.max_bytes(file)) for file in present}
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
    """A record holds its label bytes, then the red, green and blue planes, each row by row."""
    record_bytes = len(form.labels) + PIXEL_BYTES
    for path, content in files:
        if not content or len(content) % record_bytes:
            raise InputError(
                f"{path} has {len(content):,} bytes, which is not a multiple of a record's {record_bytes:,}; "
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
