"""Arrays from files that PyTorch has saved, without PyTorch and without running what a file says.

Such a file holds a pickle, a program that could call any function. Here it may build dictionaries, lists, numbers and
tensors, and nothing else: the first other name in it ends the reading.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jdarts.errors import InputError

#: What PyTorch before 1.6 writes first: a number that marks its files, and the number of their format.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_ZIP_START = b"PK\x03\x04"

_STORAGES: Mapping[str, np.dtype] = {
    name: np.dtype(dtype)
    for name, dtype in {
        "DoubleStorage": np.float64,
        "FloatStorage": np.float32,
        "HalfStorage": np.float16,
        "BFloat16Storage": jnp.bfloat16,
        "LongStorage": np.int64,
        "IntStorage": np.int32,
        "ShortStorage": np.int16,
        "CharStorage": np.int8,
        "ByteStorage": np.uint8,
        "BoolStorage": np.bool_,
    }.items()
}


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `state_dict` that `torch.save` has written, in PyTorch's own format of any version since 0.1.10.

    Args:
      path: the file. It holds a `state_dict`, or a dictionary with one under `state_dict`, as a training's checkpoint does.

    Raises:
      InputError: the file is not there, damaged or of another kind, or it asks for anything but tensors.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        saved = _from_zip(content) if content.startswith(_ZIP_START) else _from_sequence(content)
        return _state_dict(saved)
    except _Refused as refused:
        raise InputError(f"{path}: {refused}") from None
    except Exception as error:
        # A damaged pickle fails in as many ways as there are instructions.
        raise InputError(
            f"{path} is truncated, damaged or no file of PyTorch ({_short(error)}); copy or download it again"
        ) from None


class _Refused(Exception):
    """What a file asks for is refused, or it does not hold what is wanted; the text says why."""


class _Tensor:
    """A part of a storage, to be read when the storages are known."""

    def __init__(self, storage: "_Storage", offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or len(shape) != len(strides) or any(n < 0 for n in numbers):
            raise ValueError("a tensor of impossible shape")
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
        if math.prod(shape) > storage.count or (math.prod(shape) and last >= storage.count):
            raise ValueError("a tensor larger than its storage")
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> np.ndarray:
        data = self.storage.data()
        if not math.prod(self.shape):
            return np.zeros(self.shape, data.dtype)
        strides = tuple(stride * data.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, strides, writeable=False).copy()


class _Storage(NamedTuple):
    """Numbers in a row: what they are, how many, and how to get their bytes."""

    dtype: np.dtype
    count: int
    read: Callable[[], bytes]

    def data(self) -> np.ndarray:
        content = self.read()
        if len(content) < self.count * self.dtype.itemsize:
            raise ValueError(f"a storage of {len(content):,} bytes in place of {self.count * self.dtype.itemsize:,}")
        return np.frombuffer(content, self.dtype, self.count)


class _StorageKind(NamedTuple):
    """Stands for a class of PyTorch's storages; it cannot be called."""

    dtype: np.dtype


class _Ignored:
    """Takes the place of what nothing reads."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


class _Unpickler(pickle.Unpickler):
    """A pickle machine that knows a handful of names and refuses all others."""

    def __init__(self, file: io.BytesIO, storage: Callable[[Any], _Storage]) -> None:
        super().__init__(file, encoding="utf-8")
        self._storage = storage
        # New functions for every file: a pickle can set attributes of what it is given.
        self._known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor"): lambda *arguments: _tensor(*arguments),
            ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: _tensor(*arguments),
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *rest: tensor,
            ("torch", "Size"): lambda sizes=(): tuple(sizes),
            # Scores in a training's checkpoint, which nothing reads.
            ("numpy.core.multiarray", "scalar"): _Ignored,
            ("numpy._core.multiarray", "scalar"): _Ignored,
            ("numpy", "dtype"): _Ignored,
            ("_codecs", "encode"): _Ignored,
        }

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.cuda") and name in _STORAGES:
            return _StorageKind(_STORAGES[name])
        try:
            return self._known[module, name]
        except KeyError:
            raise _Refused(
                f"it asks for {module}.{name}, which is refused: a file is read for its tensors and runs nothing; save the "
                "network's state_dict() alone"
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        return self._storage(pid)


def _from_zip(content: bytes) -> Any:
    """The format since PyTorch 1.6: a zip archive with the pickle and a file for every storage."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise _Refused("it is a zip archive, but not one of PyTorch; give a file that torch.save has written")
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise _Refused("it is a compressed archive, which torch.save does not write")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in members and archive.read(f"{folder}byteorder") != b"little":
            raise _Refused("its numbers are big-endian; save it again on another machine")

        def storage(pid: Any) -> _Storage:
            kind, key, count = _described(pid)
            return _Storage(kind.dtype, count, lambda: archive.read(f"{folder}data/{key}"))

        return _arrays(_Unpickler(io.BytesIO(archive.read(pickles[0])), storage).load())


def _from_sequence(content: bytes) -> Any:
    """The format before PyTorch 1.6: pickles one after the other, then the bytes of all storages."""
    file = io.BytesIO(content)
    storages: dict[str, bytes] = {}
    sizes: dict[str, int] = {}

    def storage(pid: Any) -> _Storage:
        kind, key, count = _described(pid)
        size = sizes[key] = kind.dtype.itemsize
        view = pid[5] if len(pid) > 5 else None
        offset, length = (int(view[1]), int(view[2])) if view else (0, count)
        if offset < 0 or length < 0:
            raise ValueError("a storage of impossible size")
        return _Storage(kind.dtype, length, lambda: storages[key][offset * size : (offset + length) * size])

    load = [_Unpickler(file, storage).load for _ in range(5)]
    if load[0]() != _MAGIC or load[1]() != _PROTOCOL or not load[2]().get("little_endian"):
        raise ValueError("its first bytes are not PyTorch's")
    saved = load[3]()
    for key in load[4]():
        count = int.from_bytes(_exactly(file, 8), "little")
        storages[key] = _exactly(file, count * sizes[key])
    return _arrays(saved)


def _described(pid: Any) -> tuple[_StorageKind, str, int]:
    """Kind, key and count of a storage, from the tuple that the pickle names it by."""
    word, kind, key, _, count, *_ = pid
    if word != "storage" or not isinstance(kind, _StorageKind) or not isinstance(key, str):
        raise ValueError("an unknown kind of storage")
    return kind, key, int(count)


def _exactly(file: io.BytesIO, size: int) -> bytes:
    found = file.read(size)
    if len(found) != size:
        raise EOFError(f"it ends {size - len(found):,} bytes early")
    return found


def _arrays(saved: Any, depth: int = 0) -> Any:
    """What was saved, with tensors read as arrays; only dictionaries with names are looked into."""
    if isinstance(saved, _Tensor):
        return saved.array()
    if isinstance(saved, dict) and depth < 3:
        return {key: _arrays(value, depth + 1) for key, value in saved.items() if isinstance(key, str)}
    return None


def _state_dict(saved: Any) -> dict[str, np.ndarray]:
    found = saved.get("state_dict", saved) if isinstance(saved, dict) else None
    arrays = {name: a for name, a in found.items() if isinstance(a, np.ndarray)} if isinstance(found, dict) else {}
    if not arrays:
        raise _Refused("it holds no state_dict; save the network's state_dict()")
    return arrays


def _short(error: Exception) -> str:
    text = next(iter(str(error).strip().splitlines()), "")
    return (text or type(error).__name__)[:120]
