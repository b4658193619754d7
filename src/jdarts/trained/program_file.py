"""Files of exported programs: the program, its description, and a checksum of both.

A file starts with the program as `jax.export` serialises it, so `jax.export.deserialize` reads it and ignores the rest: a
description as JSON text, its length (8 bytes, little-endian), the SHA-256 of all before it, and a mark.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from jdarts.errors import InputError
from jdarts.files.arrays import unreadable

_MARK = b"jdarts1\n"
_LENGTH = struct.Struct("<Q")
_DIGEST_SIZE = hashlib.sha256().digest_size
_END_SIZE = _LENGTH.size + _DIGEST_SIZE + len(_MARK)


def sealed(program: bytes, description: Mapping[str, Any]) -> bytes:
    """The content of a file.

    Args:
      program: the program as `jax.export` has serialised it.
      description: its description, JSON data.
    """
    text = json.dumps(description).encode()
    content = program + text + _LENGTH.pack(len(text))
    return content + hashlib.sha256(content).digest() + _MARK


def is_sealed(path: Path) -> bool:
    """Whether a file ends with the mark of an exported program; its checksum is not compared.

    Raises:
      InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _has_mark(file)
    except OSError as error:
        raise unreadable(path, error) from None


def _has_mark(file: BinaryIO) -> bool:
    size = file.seek(0, 2)
    file.seek(max(size - len(_MARK), 0))
    return size >= _END_SIZE and file.read() == _MARK


def read_sealed(path: Path) -> tuple[bytearray, Any]:
    """The program of a file and its description, after a comparison of the checksum.

    Raises:
      InputError: the file cannot be read, has no checksum or another one. Nothing is deserialised then.
    """
    try:
        with path.open("rb") as file:
            has_mark = _has_mark(file)
            file.seek(0)
            content = memoryview(bytearray(file.read())) if has_mark else memoryview(b"")
    except OSError as error:
        raise unreadable(path, error) from None
    if not has_mark:
        raise InputError(
            f"{path} is damaged, or not a network that jdarts has exported: it has no checksum at its end, as in earlier "
            "versions; export it again with python -m jdarts.export"
        )
    covered, digest = content[: -_DIGEST_SIZE - len(_MARK)], content[-_DIGEST_SIZE - len(_MARK) : -len(_MARK)]
    if hashlib.sha256(covered).digest() != digest:
        raise InputError(
            f"{path} is damaged: it does not match its checksum; copy it again, or export the network again"
        )
    (length,) = _LENGTH.unpack(covered[-_LENGTH.size :])
    stop = len(covered) - _LENGTH.size
    start = max(stop - length, 0)
    try:
        return bytearray(covered[:start]), json.loads(bytes(covered[start:stop]))
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not a network that jdarts has exported: its description is not JSON") from None
