"""Reads the original files of a corpus: plain text, a line per record, words separated by spaces."""

import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from jdarts.data.originals.images import os_errors_as_input
from jdarts.data.text.catalogue import PLAIN, SPLITS, TextEntry
from jdarts.errors import InputError

#: Generous limits of a file, since a corpus is held in memory, and of a line, since a record holds one.
MAX_FILE_BYTES = 1 << 30
MAX_LINE_BYTES = 1 << 27
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def holds_texts(folder: Path) -> bool:
    """Whether a folder holds one of the files of a user's own corpus.

    Raises:
      InputError: the folder cannot be read.
    """
    with os_errors_as_input(folder):
        return any((folder / file).is_file() for file in PLAIN.values())


def read_texts(folder: Path, entry: TextEntry) -> dict[str, list[str]]:
    """The lines of each split.

    Args:
      folder: the folder of the files.
      entry: their names and checksums.

    Raises:
      InputError: a file is missing, empty, not UTF-8, or fails its checksum.
    """
    files = _files(folder, entry)
    return {split: _lines(files[split], entry.md5.get(split), entry) for split in SPLITS}


def _files(folder: Path, entry: TextEntry) -> dict[str, Path]:
    """The paths of the files, by the naming scheme of which the folder holds most."""
    with os_errors_as_input(folder):
        is_folder = folder.is_dir()
    if not is_folder:
        state = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {state}; give the folder that holds {', '.join(entry.files[0].values())}")

    def missing(names: Mapping[str, str]) -> list[str]:
        return [name for name in names.values() if not (folder / name).is_file()]

    best = min(entry.files, key=lambda names: len(missing(names)))
    if missing_files := missing(best):
        schemes = ", or ".join(", ".join(names.values()) for names in entry.files)
        raise InputError(f"{folder} does not hold {', '.join(missing_files)}; give a folder that holds {schemes}")
    return {split: folder / name for split, name in best.items()}


def _lines(path: Path, md5: str | None, entry: TextEntry) -> list[str]:
    with os_errors_as_input(path), path.open("rb") as file:
        if (size := os.fstat(file.fileno()).st_size) > MAX_FILE_BYTES:
            raise InputError(
                f"{path} has {size:,} bytes; a corpus is held in memory, so a file may have at most "
                f"{MAX_FILE_BYTES:,}: give a part of it"
            )
        if md5 and (checksum := hashlib.file_digest(file, _md5).hexdigest()) != md5:
            raise InputError(
                f"{path} is not the {entry.title} file in common use: MD5 {checksum}, expected {md5}; get it again, or "
                f"prepare it as your own corpus from train.txt, valid.txt and test.txt: python -m jdarts.data prepare "
                f"my_{entry.tfds_name} --from FOLDER"
            )
        file.seek(0)
        lines = list(_decode_lines(path, file))
    if not any(map(str.strip, lines)):
        raise InputError(f"{path} is empty; give a text with words, one sentence or paragraph a line")
    return lines


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)


def _decode_lines(path: Path, file: BinaryIO) -> Iterator[str]:
    """The lines of a file without their line breaks, `\\n` or `\\r\\n`."""
    for number in itertools.count(1):
        line = file.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        if len(line) > MAX_LINE_BYTES:
            raise InputError(
                f"{path} has more than {MAX_LINE_BYTES:,} bytes in line {number:,}; put one sentence or paragraph on a line"
            )
        if b"\0" in line and not line.startswith(_UTF16_MARKS):
            raise InputError(
                f"{path} is not plain text: a byte 0 in line {number:,}; if it is UTF-16, convert it with: "
                f"iconv -f utf-16 -t utf-8 {path.name}"
            )
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            form = "utf-16" if line.startswith(_UTF16_MARKS) else "latin1"
            raise InputError(
                f"{path} is not UTF-8 text: byte 0x{line[error.start]:02x} in line {number:,}; convert it first, for "
                f"example with: iconv -f {form} -t utf-8 {path.name}"
            ) from None
        yield text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")
