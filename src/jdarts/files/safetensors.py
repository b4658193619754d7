"""Files in the `safetensors` format: arrays by name after a header in JSON. Reading one runs no code."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jdarts.errors import InputError
from jdarts.files.arrays import read_file
from jdarts.files.json_data import parse_json

_TYPES = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I64": np.dtype("<i8"), "I32": np.dtype("<i4"),
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_LENGTH = struct.Struct("<Q")
#: The largest header that the format allows.
_MAX_HEADER = 100_000_000


def safetensors_bytes(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """The content of a file.

    Args:
      arrays: floats or integers by name.
      metadata: texts by name.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    parts, start = [], 0
    for name, array in arrays.items():
        content = np.ascontiguousarray(array).tobytes()
        dtype = _NAMES[array.dtype.newbyteorder("<")]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [start, start + len(content)]}
        parts.append(content)
        start += len(content)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([_LENGTH.pack(len(text)), text, *parts])


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, which share the memory of its content.

    Raises:
      InputError: the file is missing, damaged or of another kind, or has arrays of another type than floats and integers.
    """
    content = memoryview(read_file(path))
    try:
        (length,) = _LENGTH.unpack(content[: _LENGTH.size])
        data = content[_LENGTH.size + length :]
        if length > min(_MAX_HEADER, len(content) - _LENGTH.size):
            raise ValueError("its header is cut off")
        header = parse_json(bytes(content[_LENGTH.size : _LENGTH.size + length]))
        return {name: _array(name, entry, data) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, struct.error) as error:
        raise InputError(
            f"{path} is truncated, damaged or not a safetensors file ({str(error)[:100]}); copy or download it again"
        ) from None


def _array(name: str, entry: Mapping[str, object], data: memoryview) -> np.ndarray:
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if kind not in _TYPES:
        raise ValueError(f"{name[:40]} has the type {str(kind)[:20]}; known are {', '.join(_TYPES)}")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise ValueError(f"{name[:40]} has no shape or place")
    numbers = [*shape, *offsets]
    if len(shape) > 32 or not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
        raise ValueError(f"{name[:40]} has an impossible shape or place")
    dtype, (start, stop) = _TYPES[str(kind)], offsets
    if stop > len(data) or stop - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name[:40]} has another size than its shape")
    return np.frombuffer(data[start:stop], dtype).reshape(shape)
