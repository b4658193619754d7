"""Reads the arrays of PyTorch files without PyTorch and without running code from the file.

Such a file holds a pickle, a program that could call any function. Here it can build only dictionaries, lists, numbers and
tensors. Objects of other classes are ignored outside of the network's tensors, and refused among them.
"""

import functools
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jdarts.errors import InputError
from jdarts.files.archive import Archive, DamagedArchive, is_archive
from jdarts.files.arrays import read_file
from jdarts.trained.pickled import Foreign, Name, dictionary, read_pickle

#: The first numbers in files of PyTorch before 1.6: a magic number and the version of the format.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MAX_AXES = 32
#: Usual keys of the network in a training's checkpoint, in order of preference.
_USUAL_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")
#: Largest nesting depth of dictionaries of tensors in a checkpoint.
_MAX_DEPTH = 3

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
    """Reads the arrays of a `state_dict` that `torch.save` has written, in any format of PyTorch since 0.1.10.

    Tensors that share a storage share their memory here too; nothing is copied.

    Args:
      path: the file. It holds a `state_dict`, or nested dictionaries with one, as a training's checkpoint does: under
        `state_dict`, `model_state_dict`, `model_state`, `model`, `net`, `network` or `weights`, or as the only one. It may
        also be an item of a list or a tuple. Objects of other classes next to it are ignored.

    Raises:
      InputError: the file is missing, damaged or of another kind, or its network contains something else than tensors.
    """
    content = read_file(path)
    try:
        saved = _from_zip(content) if is_archive(content) else _from_legacy(content)
        return {name: tensor.array() for name, tensor in _state_dict(saved).items()}
    except _Refused as refused:
        raise InputError(f"{path}: {refused}") from None
    except (DamagedArchive, ValueError, TypeError, LookupError, AttributeError, OverflowError, EOFError) as error:
        # A damaged pickle can fail at any instruction, with any of these errors.
        raise InputError(
            f"{path} is truncated, damaged or not a PyTorch file ({_short(error)}); copy or download it again"
        ) from None


class _Refused(Exception):
    """The file needs something that is refused, or has no network; the message says which."""


def _refused(foreign: Foreign) -> _Refused:
    return _Refused(
        f"it asks for {foreign.name[:120]}, which is refused: a file is read for its tensors and runs nothing; save the "
        "network's state_dict() alone"
    )


class _Storage(NamedTuple):
    """A flat array: its type, its size, and a function that reads its bytes."""

    dtype: np.dtype
    count: int
    read: Callable[[], bytes | memoryview]

    def data(self) -> np.ndarray:
        content = self.read()
        if len(content) < self.count * self.dtype.itemsize:
            raise ValueError(f"a storage of {len(content):,} bytes in place of {self.count * self.dtype.itemsize:,}")
        return np.frombuffer(content, self.dtype, self.count)


class _Tensor(NamedTuple):
    """A view of a storage, which is read later."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        data = self.storage.data()
        if not math.prod(self.shape):
            return np.zeros(self.shape, data.dtype)
        strides = tuple(stride * data.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, strides, writeable=False)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _Tensor | Foreign:
    if isinstance(storage, Foreign):
        return storage
    shape, strides = _size(shape), _size(strides)
    if not isinstance(storage, _Storage) or len(shape) != len(strides) or len(shape) > _MAX_AXES:
        raise ValueError("a tensor of impossible shape")
    numbers = (offset, *shape, *strides)
    # Bounds are checked first: products of huge integers take long.
    if not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
        raise ValueError("a tensor of impossible shape")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
    if math.prod(shape) > storage.count or (math.prod(shape) and last >= storage.count):
        raise ValueError("a tensor larger than its storage")
    return _Tensor(storage, offset, shape, strides)


def _size(sizes: Any = ()) -> tuple[Any, ...]:
    if not isinstance(sizes, (list, tuple)):
        raise ValueError("a tensor of impossible shape")
    return tuple(sizes)


def _ignored(*arguments: Any) -> None:
    """Stands in for objects that nothing reads."""


#: The functions that a file may call.
_NAMES: Mapping[Name, Callable[..., Any] | None] = {
    Name("collections", "OrderedDict"): lambda pairs=(): dictionary(pairs),
    Name("torch._utils", "_rebuild_tensor"): _tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Name("torch._utils", "_rebuild_parameter"): lambda tensor, *rest: tensor,
    Name("torch", "Size"): _size,
    # Scores in the checkpoint of a training.
    Name("numpy.core.multiarray", "scalar"): _ignored,
    Name("numpy._core.multiarray", "scalar"): _ignored,
    Name("numpy", "dtype"): _ignored,
    Name("_codecs", "encode"): _ignored,
    **{Name(module, kind): None for module in ("torch", "torch.cuda") for kind in _STORAGES},
}


def _from_zip(content: bytes) -> Any:
    """The format since PyTorch 1.6: a zip archive with the pickle and a file for each storage."""
    archive = Archive(content)
    pickles = [name for name in archive.members if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise _Refused("it is a zip archive, but not of PyTorch; give a file that torch.save has written")
    if any(info.compress_size != info.file_size or info.compress_type for info in archive.members.values()):
        raise _Refused("it is a compressed archive, which torch.save does not write")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.members and archive.read(f"{folder}byteorder") != b"little":
        raise _Refused("its numbers are big-endian; save it again on another machine")
    # Many tensors may share a storage: its checksum is compared once.
    read = functools.cache(archive.read)

    def storage(pid: Any) -> _Storage | Foreign:
        described = _storage_of(pid)
        if isinstance(described, Foreign):
            return described
        dtype, key, count = described
        return _Storage(dtype, count, lambda: read(f"{folder}data/{key}"))

    return read_pickle(io.BytesIO(archive.read(pickles[0])), _NAMES, storage)


def _from_legacy(content: bytes) -> Any:
    """The format before PyTorch 1.6: pickles one after the other, then the bytes of all storages."""
    file = io.BytesIO(content)
    storages: dict[str, memoryview] = {}
    sizes: dict[str, int] = {}

    def storage(pid: Any) -> _Storage | Foreign:
        if isinstance(pid, tuple) and pid[0] == "module" and isinstance(pid[1], Foreign):
            return pid[1]
        described = _storage_of(pid)
        if isinstance(described, Foreign):
            # The size of its numbers is unknown, so the storages after it cannot be located.
            raise _refused(described)
        dtype, key, count = described
        size = sizes[key] = dtype.itemsize
        view = pid[5] if len(pid) > 5 else None
        offset, length = (view[1], view[2]) if view else (0, count)
        if not all(type(number) is int and number >= 0 for number in (offset, length)):
            raise ValueError("a storage of impossible size")
        return _Storage(dtype, length, lambda: storages[key][offset * size : (offset + length) * size])

    def read_head() -> Any:
        value = read_pickle(file, _NAMES, storage)
        if isinstance(value, Foreign):
            raise _refused(value)
        return value

    magic, protocol, system = (read_head() for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL or not system.get("little_endian"):
        raise ValueError("its first bytes are not PyTorch's")
    saved, keys = (read_pickle(file, _NAMES, storage) for _ in range(2))
    place, bytes_ = file.tell(), memoryview(content)
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str):
            raise ValueError("a storage without a name")
        size = int.from_bytes(bytes_[place : place + 8], "little") * sizes[key]
        place += 8
        if place + size > len(bytes_):
            raise EOFError(f"it ends {place + size - len(bytes_):,} bytes early")
        storages[key] = bytes_[place : place + size]
        place += size
    return saved


def _storage_of(pid: Any) -> tuple[np.dtype, str, int] | Foreign:
    """Type, key and count of a storage from its persistent identifier; `Foreign` if the type is unknown."""
    word, kind, key, _, count, *_ = pid
    if isinstance(kind, Foreign):
        return kind
    if word != "storage" or not isinstance(kind, Name) or kind.name not in _STORAGES or not isinstance(key, str):
        raise ValueError("an unknown kind of storage")
    if type(count) is not int or not 0 <= count < 2**48:
        raise ValueError("a storage of impossible size")
    return _STORAGES[kind.name], key, count


def _state_dict(saved: Any) -> dict[str, _Tensor]:
    """The tensors of the network, by name, found in the saved object."""
    found = dict(_dictionaries(saved))
    dictionaries = {place: value for place, value in found.items() if isinstance(value, dict)}
    for usual in _USUAL_KEYS:
        for place, tensors in dictionaries.items():
            if place.rpartition(".")[2] == usual:
                return _only_tensors(tensors)
    for place, value in found.items():
        if isinstance(value, Foreign) and (place in _USUAL_KEYS or not dictionaries):
            raise _refused(value)
    if not dictionaries:
        raise _Refused("it holds no state_dict; save the network's state_dict()")
    most = max(map(len, dictionaries.values()))
    largest = [place for place, tensors in dictionaries.items() if len(tensors) == most]
    if len(largest) > 1:
        places = ", ".join(place or "the file itself" for place in largest)[:80]
        raise _Refused(
            f"it holds several dictionaries of tensors ({places}), and no name tells which is the network; save the network's "
            "state_dict() alone"
        )
    return _only_tensors(dictionaries[largest[0]])


def _only_tensors(found: Mapping[str, _Tensor | Foreign]) -> dict[str, _Tensor]:
    """Refuses objects of other classes in a dictionary of tensors."""
    tensors: dict[str, _Tensor] = {}
    for name, value in found.items():
        if isinstance(value, Foreign):
            raise _refused(value)
        tensors[name] = value
    return tensors


def _dictionaries(saved: Any) -> Iterator[tuple[str, dict[str, _Tensor | Foreign] | Foreign]]:
    """The dictionaries with tensors in the saved object, and objects of other classes, by path; outer ones first."""
    level: Iterable[tuple[str, Any]] = [("", saved)]
    if isinstance(saved, (list, tuple)):
        level = [(str(index), value) for index, value in enumerate(saved)]
    seen: set[int] = set()
    for _ in range(_MAX_DEPTH):
        inner: list[tuple[str, Any]] = []
        for place, value in level:
            if isinstance(value, Foreign):
                yield place, value
            # One dictionary may occur a million times in a pickle.
            if not isinstance(value, dict) or id(value) in seen:
                continue
            seen.add(id(value))
            named = {name: each for name, each in value.items() if isinstance(name, str)}
            if any(isinstance(each, _Tensor) for each in named.values()):
                yield place, {name: each for name, each in named.items() if isinstance(each, (_Tensor, Foreign))}
            inner += [
                (f"{place}.{name}".lstrip("."), each)
                for name, each in named.items()
                if isinstance(each, (dict, Foreign))
            ]
        level = inner


def _short(error: BaseException) -> str:
    text = next(iter(str(error).strip().splitlines()), "")
    return (text or type(error).__name__)[:120]
