"""Reads a corpus' original files: plain text, one line a record, words between spaces."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from jdarts.data.raw import os_errors_as_input
from jdarts.data.text.catalogue import PLAIN, SPLITS, TextEntry
from jdarts.errors import InputError


def holds_texts(folder: Path) -> bool:
    """Whether a folder holds one of the files of a corpus of the user's own."""
    return any((folder / file).is_file() for file in PLAIN.values())


def read_texts(folder: Path, entry: TextEntry) -> dict[str, list[str]]:
    """The lines of each split.

    Args:
      folder: where the files lie.
      entry: their names and checksums.

    Raises:
      InputError: a file is missing, empty, not UTF-8, or not the one that is meant.
    """
    files = _files(folder, entry)
    return {split: _lines(files[split], entry.md5.get(split), entry) for split in SPLITS}


def _files(folder: Path, entry: TextEntry) -> dict[str, Path]:
    """The naming scheme that the folder follows: the one of which it holds most."""
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {state}; give the folder that holds {', '.join(entry.files[0].values())}")

    def missing(names: Mapping[str, str]) -> list[str]:
        return [name for name in names.values() if not (folder / name).is_file()]

    best = min(entry.files, key=lambda names: len(missing(names)))
    if absent := missing(best):
        schemes = ", or ".join(", ".join(names.values()) for names in entry.files)
        raise InputError(f"{folder} does not hold {', '.join(absent)}; give a folder that holds {schemes}")
    return {split: folder / name for split, name in best.items()}


def _lines(path: Path, md5: str | None, entry: TextEntry) -> list[str]:
    with os_errors_as_input(path):
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path} is not UTF-8 text: byte 0x{content[error.start]:02x} in line {line:,}; convert it first, for "
            f"example with: iconv -f latin1 -t utf-8 {path.name}"
        ) from None
    if not text.split(maxsplit=1):
        raise InputError(f"{path} is empty; give a text with words, one sentence or paragraph a line")
    if md5 and (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != md5:
        raise InputError(
            f"{path} is not the {entry.title} file that is commonly used: MD5 {found}, expected {md5}; get it again, or "
            f"prepare it as a corpus of your own from train.txt, valid.txt and test.txt: python -m jdarts.data prepare "
            f"my_{entry.tfds_name} --from FOLDER"
        )
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines
