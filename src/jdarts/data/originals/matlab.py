"""Reads arrays of numbers from a MATLAB 5 file, as MATLAB and SciPy write it; any damage is an error.

A file is a header of 128 bytes, then elements: a tag (type, length) and data. A variable is an element, compressed or not,
that contains other elements: flags, sizes, name, numbers.
"""

import dataclasses
import math
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from jdarts.data.originals.images import os_errors_as_input
from jdarts.data.originals.unpacking import ZLIB, Readable, Unpacked
from jdarts.errors import InputError

_Order = Literal["<", ">"]
_MATRIX, _COMPRESSED = 14, 15
_NAME_TYPES, _SIZES_TYPE, _FLAGS_TYPE = (1, 2), 5, 6
#: NumPy's types by the type number of an element, and by the class number of a variable.
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX = 0x0800
_MAX_AXES, _MAX_NAME, _MAX_ELEMENTS = 32, 256, 1000
#: A generous limit of the bytes before a variable's numbers.
_MAX_HEADER_BYTES = 1024


class _Damage(Exception):
    """The file is damaged; the message says how."""


def read_arrays(path: Path, largest: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Reads the variables of these names.

    Args:
      path: the file.
      largest: the largest allowed size of each variable. No more numbers are unpacked.

    Returns:
      The variables that exist, in MATLAB's order of axes.

    Raises:
      InputError: the file cannot be read, is damaged or of another version, or a variable is too large.
    """
    arrays: dict[str, np.ndarray] = {}
    with os_errors_as_input(path), path.open("rb") as file:
        try:
            order = _byte_order(file.read(128))
            for _ in range(_MAX_ELEMENTS):
                if len(arrays) == len(largest) or not _read_element(file, order, largest, arrays):
                    return arrays
            raise _Damage(f"it has more than {_MAX_ELEMENTS:,} elements")
        except (_Damage, EOFError, zlib.error) as error:
            raise InputError(f"{path} is not a complete MATLAB file ({error}); get the file again") from error


def _byte_order(header: bytes) -> _Order:
    orders: dict[bytes, _Order] = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
    if len(header) < 128 or header[124:] not in orders:
        if header[:8] == b"\x89HDF\r\n\x1a\n" or header[124:] == b"\x00\x02IM":
            raise _Damage("it is of version 7.3; save it with -v7")
        raise _Damage("it does not begin like one of version 5 to 7")
    return orders[header[124:]]


@dataclasses.dataclass
class _Part:
    """The next `left` bytes of a file."""

    file: BinaryIO
    left: int

    def read(self, size: int, /) -> bytes:
        content = self.file.read(min(size, self.left))
        self.left -= len(content)
        return content


def _read_element(file: BinaryIO, order: _Order, largest: Mapping[str, int], arrays: dict[str, np.ndarray]) -> bool:
    """Reads the next element of a file, and adds it to `arrays` if it is a wanted variable; False at the file's end."""
    tag = file.read(8)
    if not tag:
        return False
    if len(tag) < 8:
        raise _Damage("it is cut off")
    kind, length = struct.unpack(f"{order}II", tag)
    end = file.tell() + length
    if end > os.fstat(file.fileno()).st_size:
        raise _Damage("it is cut off")
    part = _Part(file, length)
    if kind == _COMPRESSED:
        # Numbers have up to 8 bytes; the sizes of a larger variable are refused.
        unpacked = Unpacked(part, ZLIB, max_bytes=8 * max(largest.values()) + _MAX_HEADER_BYTES)
        if _read_exactly(unpacked, 8)[:4] != struct.pack(f"{order}I", _MATRIX):
            raise _Damage("a compressed element is not a variable")
        _read_variable(unpacked, order, largest, arrays)
    elif kind == _MATRIX:
        _read_variable(part, order, largest, arrays)
    file.seek(end)
    return True


def _read_variable(stream: Readable, order: _Order, largest: Mapping[str, int], arrays: dict[str, np.ndarray]) -> None:
    kind, flags = _short_element(stream, order, 8)
    if kind != _FLAGS_TYPE or len(flags) != 8:
        raise _Damage("a variable has no flags")
    (flag,) = struct.unpack(f"{order}I", flags[:4])
    kind, sizes = _short_element(stream, order, 4 * _MAX_AXES)
    if kind != _SIZES_TYPE or len(sizes) % 4 or not sizes:
        raise _Damage("a variable has no sizes")
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    kind, encoded = _short_element(stream, order, _MAX_NAME)
    if kind not in _NAME_TYPES:
        raise _Damage("a variable has no name")
    name = encoded.decode("latin-1")
    if name not in largest:
        return
    target = _CLASSES.get(flag & 0xFF)
    if target is None or flag & _COMPLEX:
        raise _Damage(f"{name} is not an array of real numbers")
    count = math.prod(shape)
    if min(shape) < 0 or count > largest[name]:
        raise _Damage(f"{name} has the sizes {list(shape)}, at most {largest[name]:,} numbers are expected")
    kind, length, in_tag = _tag(stream, order)
    stored = _STORED.get(kind)
    if stored is None or not np.can_cast(stored, target, "same_kind") or length != count * np.dtype(stored).itemsize:
        raise _Damage(f"the {length:,} bytes of {name} do not fit its sizes {list(shape)}")
    content = in_tag[:length] if in_tag else _read_exactly(stream, length)
    if isinstance(stream, Unpacked) and not in_tag:
        _read_exactly(stream, -length % 8)
    if isinstance(stream, Unpacked):
        stream.check_end()
    array = np.frombuffer(content, np.dtype(stored).newbyteorder(order))
    arrays[name] = array.astype(target, copy=False).reshape(shape, order="F")


def _tag(stream: Readable, order: _Order) -> tuple[int, int, bytes]:
    """Type and length of an element, and its bytes if they are in_tag the tag (4 bytes), else none."""
    tag = _read_exactly(stream, 8)
    first, length = struct.unpack(f"{order}II", tag)
    if first >> 16:
        if first >> 16 > 4:
            raise _Damage("an element in a tag is longer than 4 bytes")
        return first & 0xFFFF, first >> 16, tag[4:]
    return first, length, b""


def _short_element(stream: Readable, order: _Order, max_bytes: int) -> tuple[int, bytes]:
    """Type and bytes of an element of at most `max_bytes`."""
    kind, length, in_tag = _tag(stream, order)
    if in_tag:
        return kind, in_tag[:length]
    if length > max_bytes:
        raise _Damage(f"an element has {length:,} bytes, at most {max_bytes} are expected")
    return kind, _read_exactly(stream, length + -length % 8)[:length]


def _read_exactly(stream: Readable, size: int) -> bytes:
    content = stream.read(size) if size else b""
    if len(content) < size:
        raise _Damage("it is cut off")
    return content
