"""Arrays by name from an `.npz` file, without pickle: shapes at once, numbers on demand.

A small file can hold arrays of many gigabytes. So a reader checks the shapes first, and reads only the arrays that fit.
"""

import dataclasses
import math
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jdarts.errors import InputError, shortened
from jdarts.files.archive import Archive, DamagedArchive, shown

_MAGIC = b"\x93NUMPY"
#: Bytes of the header's length field, by version of the format.
_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
#: Only arrays of records have longer headers.
_MAX_HEADER_BYTES = 4096
_HEADER = re.compile(
    r"\s*\{\s*'descr'\s*:\s*'(?P<type>[<>|=]?(?P<kind>[a-zA-Z?])\d{0,9})'\s*,\s*'fortran_order'\s*:\s*(?P<order>True|False)"
    r"\s*,\s*'shape'\s*:\s*\((?P<shape>[\d, ]*)\)\s*,?\s*\}\s*"
)
#: NumPy's codes for numbers and text, and for Python objects.
_KINDS, _OBJECTS = "fiubU", "O"
_MAX_NUMBER_BYTES = 8
_MAX_AXES = 32


@dataclasses.dataclass(frozen=True, eq=False)
class StoredArray:
    """An array in a file; `np.asarray` reads its numbers.

    Attributes:
      shape: its shape.
      dtype: its type: numbers or text.
      read: reads the numbers; raises `InputError` if the file is damaged.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Size in memory, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.read()
        return array if dtype is None else array.astype(dtype)


def read_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays of an `.npz` file, by name.

    Raises:
      InputError: the file is missing, damaged or of another kind, or it holds Python objects.
    """
    try:
        archive = Archive(read_file(path))
        for name in archive.members:
            if name.endswith("/data.pkl"):
                raise InputError(
                    f"{path} is a PyTorch file; import it with: python -m jdarts.export FILE.pt --genotype NAME --out "
                    "network.npz"
                )
            if not name.endswith(".npy"):
                raise DamagedArchive(f"{shown(name)} is not an array")
        return {name.removesuffix(".npy"): _stored_array(archive, name, path) for name in archive.members}
    except DamagedArchive as error:
        raise _damaged(path, error) from None


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises:
      InputError: the file is missing or unreadable, or the path is not a file.
    """
    if not is_file(path) and path.exists():
        raise InputError(f"{path} is not a file; give a file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None


def is_file(path: Path) -> bool:
    """Whether a path is a file. A folder or a missing file is not.

    Raises:
      InputError: it is neither a file nor a folder, such as a device, or not a valid path.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError(f"{path} is neither a file nor a folder; give one")
    return stat.S_ISREG(mode)


def unreadable(path: Path, error: OSError | ValueError) -> InputError:
    """The error to raise when the system refuses a path."""
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return InputError(f"cannot read {shortened(str(path), 200)}: {reason}; give a file that exists and is readable")


def _damaged(path: Path, reason: object) -> InputError:
    return InputError(f"{path} is damaged, or is not an .npz file of plain arrays ({reason}); copy or write it again")


def _stored_array(archive: Archive, name: str, path: Path) -> StoredArray:
    label = shown(name.removesuffix(".npy"))
    head = bytes(archive.start(name, _MAX_HEADER_BYTES))
    size, shape, dtype, order = _header(head, label, path)
    if archive.members[name].file_size != size + math.prod(shape) * dtype.itemsize:
        raise DamagedArchive(f"the size of {label} does not match its shape {shape}")

    def read() -> np.ndarray:
        try:
            content = archive.read(name)
        except DamagedArchive as error:
            raise _damaged(path, error) from None
        array = np.frombuffer(content, dtype, math.prod(shape), size).reshape(shape, order=order)
        return array.astype(dtype.newbyteorder("="), copy=False)

    return StoredArray(shape, dtype, read)


def _header(head: bytes, label: str, path: Path) -> tuple[int, tuple[int, ...], np.dtype[Any], Any]:
    """The fields of a header: its size, then shape, type and order of the array."""
    length_bytes = _LENGTH_BYTES.get(head[6]) if head.startswith(_MAGIC) and len(head) > 6 else None
    if length_bytes is None:
        raise DamagedArchive(f"{label} is not an array")
    start = len(_MAGIC) + 2 + length_bytes
    stop = start + int.from_bytes(head[start - length_bytes : start], "little")
    fields = _HEADER.fullmatch(head[start:stop].decode("latin-1")) if stop <= len(head) else None
    shape = _shape(fields["shape"]) if fields else None
    if fields is None or shape is None:
        raise DamagedArchive(f"the header of {label} does not describe an array of numbers or text")
    if fields["kind"] == _OBJECTS:
        raise InputError(
            f"{path}: {label} holds Python objects, which are never read: save each array of numbers under a name, as in "
            "numpy.savez('weights.npz', **arrays)"
        )
    try:
        dtype = np.dtype(fields["type"]) if fields["kind"] in _KINDS else None
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or not dtype.itemsize or (dtype.kind != "U" and dtype.itemsize > _MAX_NUMBER_BYTES):
        raise DamagedArchive(f"{label} has the type {fields['type']}, which is neither numbers nor text")
    return stop, shape, dtype, "F" if fields["order"] == "True" else "C"


def _shape(text: str) -> tuple[int, ...] | None:
    """The shape in a header; None if it is invalid."""
    sizes = [size.strip() for size in text.split(",")]
    if sizes[-1] == "":
        sizes.pop()
    if len(sizes) > _MAX_AXES or not all(size.isdecimal() and len(size) < 19 for size in sizes):
        return None
    return tuple(map(int, sizes))
