"""Files that `torch.load` reads, with a `state_dict` alone; written without PyTorch, and free of code."""

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

_STORAGES = {np.dtype(np.float32): "FloatStorage", np.dtype(np.float64): "DoubleStorage"}
#: Opcodes of pickle's protocol 2.
_PROTOCOL, _MARK, _TUPLE, _REDUCE, _SET_ITEMS, _PERSISTENT, _STOP = b"\x80\x02", b"(", b"t", b"R", b"u", b"Q", b"."
_FALSE = b"\x89"
_ORDERED = b"ccollections\nOrderedDict\n)R"


def torch_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of a file, in the format since PyTorch 1.6.

    Args:
      arrays: float32 or float64, by name.
    """
    items = b"".join(_text(name) + _tensor(str(key), array) for key, (name, array) in enumerate(arrays.items()))
    program = b"".join([_PROTOCOL, _ORDERED, _MARK, items, _SET_ITEMS, _STOP])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        # Members without a date, so that the same network gives the same bytes.
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), program)
        archive.writestr(zipfile.ZipInfo("archive/byteorder"), "little")
        for key, array in enumerate(arrays.values()):
            content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
            archive.writestr(zipfile.ZipInfo(f"archive/data/{key}"), content)
        archive.writestr(zipfile.ZipInfo("archive/version"), "3\n")
    return file.getvalue()


def _tensor(key: str, array: np.ndarray) -> bytes:
    strides = [int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim)]
    storage = [
        _text("storage"),
        f"ctorch\n{_STORAGES[array.dtype]}\n".encode(),
        _text(key),
        _text("cpu"),
        _number(array.size),
    ]
    arguments = [_tuple(storage), _PERSISTENT, _number(0), _numbers(array.shape), _numbers(strides), _FALSE, _ORDERED]
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + _tuple(arguments) + _REDUCE


def _tuple(parts: Sequence[bytes]) -> bytes:
    return b"".join([_MARK, *parts, _TUPLE])


def _numbers(values: Sequence[int]) -> bytes:
    return _tuple([_number(value) for value in values])


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded
