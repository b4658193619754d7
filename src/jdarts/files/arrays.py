"""Arrays by name from an `.npz` file: shapes at once, numbers when they are needed, without pickle.

A small file can hold arrays of many gigabytes. So a reader looks at the shapes first, and asks for those arrays that fit.
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
#: How the length of a header is written in each version of the format.
_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
#: Longer headers are those of records, which are no arrays of numbers.
_LONGEST_HEADER = 4096
_HEADER = re.compile(
    r"\s*\{\s*'descr'\s*:\s*'(?P<type>[<>|=]?(?P<kind>[a-zA-Z?])\d{0,9})'\s*,\s*'fortran_order'\s*:\s*(?P<order>True|False)"
    r"\s*,\s*'shape'\s*:\s*\((?P<shape>[\d, ]*)\)\s*,?\s*\}\s*"
)
#: Kinds of types, as numpy names them: numbers and text.
_KINDS, _OBJECTS = "fiubU", "O"
_WIDEST_NUMBER = 8
_MOST_AXES = 32


@dataclasses.dataclass(frozen=True, eq=False)
class StoredArray:
    """An array in a file; `np.asarray` reads its numbers.

    Attributes:
      shape: its shape.
      dtype: its type: numbers or text.
      read: reads it. It raises InputError where the file is damaged.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.read()
        return array if dtype is None else array.astype(dtype)


def read_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays of an `.npz` file, by name.

    Raises:
      InputError: the file is not there, damaged or of another kind, or it holds Python objects.
    """
    try:
        archive = Archive(read_file(path))
        for name in archive.members:
            if name.endswith("/data.pkl"):
                raise InputError(
                    f"{path} is a file of PyTorch; it is brought in with python -m jdarts.export FILE.pt --genotype NAME --out "
                    "network.npz"
                )
            if not name.endswith(".npy"):
                raise DamagedArchive(f"{shown(name)} is no array")
        return {name.removesuffix(".npy"): _stored(archive, name, path) for name in archive.members}
    except DamagedArchive as error:
        raise _damaged(path, error) from None


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises:
      InputError: there is no such file, it is something else than a file, or it cannot be read.
    """
    if not is_file(path) and path.exists():
        raise InputError(f"{path} is no file; give a file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None


def is_file(path: Path) -> bool:
    """Whether a path is a file; not where there is nothing, or a folder.

    Raises:
      InputError: it is neither a file nor a folder, as a device, or no path of this system.
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
    """What to raise where the system refuses a path."""
    why = (error.strerror if isinstance(error, OSError) else None) or error
    return InputError(f"cannot read {shortened(str(path), 200)}: {why}; give a file that is there and may be read")


def _damaged(path: Path, why: object) -> InputError:
    return InputError(f"{path} is damaged, or no .npz file of plain arrays ({why}); copy or write it again")


def _stored(archive: Archive, name: str, path: Path) -> StoredArray:
    label = shown(name.removesuffix(".npy"))
    head = bytes(archive.start(name, _LONGEST_HEADER))
    size, shape, dtype, order = _header(head, label, path)
    if archive.members[name].file_size != size + math.prod(shape) * dtype.itemsize:
        raise DamagedArchive(f"{label} has another size than its shape {shape} says")

    def read() -> np.ndarray:
        try:
            content = archive.read(name)
        except DamagedArchive as error:
            raise _damaged(path, error) from None
        array = np.frombuffer(content, dtype, math.prod(shape), size).reshape(shape, order=order)
        return array.astype(dtype.newbyteorder("="), copy=False)

    return StoredArray(shape, dtype, read)


def _header(head: bytes, label: str, path: Path) -> tuple[int, tuple[int, ...], np.dtype[Any], Any]:
    """The size of a header, and what it says: shape, type and order of the numbers."""
    length_bytes = _LENGTH_BYTES.get(head[6]) if head.startswith(_MAGIC) and len(head) > 6 else None
    if length_bytes is None:
        raise DamagedArchive(f"{label} is no array")
    start = len(_MAGIC) + 2 + length_bytes
    stop = start + int.from_bytes(head[start - length_bytes : start], "little")
    found = _HEADER.fullmatch(head[start:stop].decode("latin-1")) if stop <= len(head) else None
    shape = _shape(found["shape"]) if found else None
    if found is None or shape is None:
        raise DamagedArchive(f"the header of {label} is not that of an array of numbers or of a text")
    if found["kind"] == _OBJECTS:
        raise InputError(
            f"{path}: {label} holds Python objects, which are never read: save every array of numbers by its name, as in "
            "numpy.savez('weights.npz', **arrays)"
        )
    try:
        dtype = np.dtype(found["type"]) if found["kind"] in _KINDS else None
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or not dtype.itemsize or (dtype.kind != "U" and dtype.itemsize > _WIDEST_NUMBER):
        raise DamagedArchive(f"{label} is of the type {found['type']}, which is neither numbers nor text")
    return stop, shape, dtype, "F" if found["order"] == "True" else "C"


def _shape(text: str) -> tuple[int, ...] | None:
    """The shape that a header gives; None where it is none."""
    sizes = [size.strip() for size in text.split(",")]
    if sizes[-1] == "":
        sizes.pop()
    if len(sizes) > _MOST_AXES or not all(size.isdecimal() and len(size) < 19 for size in sizes):
        return None
    return tuple(map(int, sizes))
