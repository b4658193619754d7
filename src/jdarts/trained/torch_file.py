"""Arrays from files that PyTorch has saved, without PyTorch and without running what a file says.

Such a file holds a pickle, a program that could call any function. Here it may build dictionaries, lists, numbers and
tensors, and nothing else: objects of other classes are passed over where they stand beside the network's tensors.
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

#: What PyTorch before 1.6 writes first: a number that marks its files, and the number of their format.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MOST_AXES = 32
#: Where a training's checkpoint has its network, the usual places first.
_PLACES = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")
#: How deep dictionaries of tensors lie in a checkpoint, at most.
_DEEPEST = 3

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

    Tensors that share numbers share them here too; nothing is copied.

    Args:
      path: the file. It holds a `state_dict`, or dictionaries with one in them, as a training's checkpoint does: under
        `state_dict`, `model_state_dict`, `model_state`, `model`, `net`, `network` or `weights`, or the only one. It may
        also be the first of a list or a tuple. Objects of other classes beside it are passed over.

    Raises:
      InputError: the file is not there, damaged or of another kind, or its network is made of anything but tensors.
    """
    content = read_file(path)
    try:
        saved = _from_zip(content) if is_archive(content) else _from_sequence(content)
        return {name: tensor.array() for name, tensor in _state_dict(saved).items()}
    except _Refused as refused:
        raise InputError(f"{path}: {refused}") from None
    except (DamagedArchive, ValueError, TypeError, LookupError, AttributeError, OverflowError, EOFError) as error:
        # A damaged pickle fails in as many ways as there are instructions.
        raise InputError(
            f"{path} is truncated, damaged or no file of PyTorch ({_short(error)}); copy or download it again"
        ) from None


class _Refused(Exception):
    """What a file asks for is refused, or it does not hold what is wanted; the text says why."""


def _refused(foreign: Foreign) -> _Refused:
    return _Refused(
        f"it asks for {foreign.name[:120]}, which is refused: a file is read for its tensors and runs nothing; save the "
        "network's state_dict() alone"
    )


class _Storage(NamedTuple):
    """Numbers in a row: what they are, how many, and how to get their bytes."""

    dtype: np.dtype
    count: int
    read: Callable[[], bytes | memoryview]

    def data(self) -> np.ndarray:
        content = self.read()
        if len(content) < self.count * self.dtype.itemsize:
            raise ValueError(f"a storage of {len(content):,} bytes in place of {self.count * self.dtype.itemsize:,}")
        return np.frombuffer(content, self.dtype, self.count)


class _Tensor(NamedTuple):
    """A part of a storage, to be read when the storages are known."""

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
    if not isinstance(storage, _Storage) or len(shape) != len(strides) or len(shape) > _MOST_AXES:
        raise ValueError("a tensor of impossible shape")
    numbers = (offset, *shape, *strides)
    # Bounds come first: products of huge numbers take long.
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
    """Makes nothing of what nothing reads."""


#: All that is made of what a file asks for.
_NAMES: Mapping[Name, Callable[..., Any] | None] = {
    Name("collections", "OrderedDict"): lambda pairs=(): dictionary(pairs),
    Name("torch._utils", "_rebuild_tensor"): _tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Name("torch._utils", "_rebuild_parameter"): lambda tensor, *rest: tensor,
    Name("torch", "Size"): _size,
    # Scores in a training's checkpoint.
    Name("numpy.core.multiarray", "scalar"): _ignored,
    Name("numpy._core.multiarray", "scalar"): _ignored,
    Name("numpy", "dtype"): _ignored,
    Name("_codecs", "encode"): _ignored,
    **{Name(module, kind): None for module in ("torch", "torch.cuda") for kind in _STORAGES},
}


def _from_zip(content: bytes) -> Any:
    """The format since PyTorch 1.6: a zip archive with the pickle and a file for every storage."""
    archive = Archive(content)
    pickles = [name for name in archive.members if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise _Refused("it is a zip archive, but not one of PyTorch; give a file that torch.save has written")
    if any(info.compress_size != info.file_size or info.compress_type for info in archive.members.values()):
        raise _Refused("it is a compressed archive, which torch.save does not write")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.members and archive.read(f"{folder}byteorder") != b"little":
        raise _Refused("its numbers are big-endian; save it again on another machine")
    # Many tensors may share a storage: its checksum is looked at once.
    read = functools.cache(archive.read)

    def storage(pid: Any) -> _Storage | Foreign:
        described = _described(pid)
        if isinstance(described, Foreign):
            return described
        dtype, key, count = described
        return _Storage(dtype, count, lambda: read(f"{folder}data/{key}"))

    return read_pickle(io.BytesIO(archive.read(pickles[0])), _NAMES, storage)


def _from_sequence(content: bytes) -> Any:
    """The format before PyTorch 1.6: pickles one after the other, then the bytes of all storages."""
    file = io.BytesIO(content)
    storages: dict[str, memoryview] = {}
    sizes: dict[str, int] = {}

    def storage(pid: Any) -> _Storage | Foreign:
        if isinstance(pid, tuple) and pid[0] == "module" and isinstance(pid[1], Foreign):
            return pid[1]
        described = _described(pid)
        if isinstance(described, Foreign):
            # How long its numbers are is not known, and other storages stand behind it.
            raise _refused(described)
        dtype, key, count = described
        size = sizes[key] = dtype.itemsize
        view = pid[5] if len(pid) > 5 else None
        offset, length = (view[1], view[2]) if view else (0, count)
        if not all(type(number) is int and number >= 0 for number in (offset, length)):
            raise ValueError("a storage of impossible size")
        return _Storage(dtype, length, lambda: storages[key][offset * size : (offset + length) * size])

    def head() -> Any:
        value = read_pickle(file, _NAMES, storage)
        if isinstance(value, Foreign):
            raise _refused(value)
        return value

    magic, protocol, system = (head() for _ in range(3))
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


def _described(pid: Any) -> tuple[np.dtype, str, int] | Foreign:
    """Type, key and count of a storage, from the tuple that the pickle names it by; or its type, if it is none of ours."""
    word, kind, key, _, count, *_ = pid
    if isinstance(kind, Foreign):
        return kind
    if word != "storage" or not isinstance(kind, Name) or kind.name not in _STORAGES or not isinstance(key, str):
        raise ValueError("an unknown kind of storage")
    if type(count) is not int or not 0 <= count < 2**48:
        raise ValueError("a storage of impossible size")
    return _STORAGES[kind.name], key, count


def _state_dict(saved: Any) -> dict[str, _Tensor]:
    """The tensors of the network among those that were saved, by name."""
    found = dict(_dictionaries(saved))
    dictionaries = {place: value for place, value in found.items() if isinstance(value, dict)}
    for usual in _PLACES:
        for place, tensors in dictionaries.items():
            if place.rpartition(".")[2] == usual:
                return _whole(tensors)
    for place, value in found.items():
        if isinstance(value, Foreign) and (place in _PLACES or not dictionaries):
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
    return _whole(dictionaries[largest[0]])


def _whole(found: Mapping[str, _Tensor | Foreign]) -> dict[str, _Tensor]:
    """A dictionary of tensors that has no objects of other classes among them."""
    tensors: dict[str, _Tensor] = {}
    for name, value in found.items():
        if isinstance(value, Foreign):
            raise _refused(value)
        tensors[name] = value
    return tensors


def _dictionaries(saved: Any) -> Iterator[tuple[str, dict[str, _Tensor | Foreign] | Foreign]]:
    """The dictionaries with tensors among what was saved, and objects of other classes, by their place; outer ones first."""
    level: Iterable[tuple[str, Any]] = [("", saved)]
    if isinstance(saved, (list, tuple)):
        level = [(str(index), value) for index, value in enumerate(saved)]
    seen: set[int] = set()
    for _ in range(_DEEPEST):
        inner: list[tuple[str, Any]] = []
        for place, value in level:
            if isinstance(value, Foreign):
                yield place, value
            # A pickle may hold one dictionary at a million places.
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
