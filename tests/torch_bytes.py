"""Files as `torch.save` writes them, made without PyTorch."""

import collections
import io
import pickle
import struct
import zipfile
from typing import Any

import numpy as np

_KINDS = {"float32": "FloatStorage", "float64": "DoubleStorage", "int64": "LongStorage", "float16": "HalfStorage"}


class Global:
    """A name that a pickle asks for."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """A call of such a name."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


class Stored:
    """An array in a storage of its own, once where it is saved often; `torch.save` writes where it lies, and its shape."""

    def __init__(self, array, strides=None, offset=0, shape=None):
        self.array = np.ascontiguousarray(array)
        default = [stride // self.array.itemsize for stride in self.array.strides]
        self.strides, self.offset = tuple(default if strides is None else strides), offset
        self.shape = self.array.shape if shape is None else shape


#: Python's own pickler, which can be extended; its stubs do not show how.
_PythonPickler: Any = pickle._Pickler


class _Pickler(_PythonPickler):
    """A pickler that writes names that do not exist here."""

    def __init__(self, file, legacy):
        super().__init__(file, protocol=2)
        self.legacy, self.storages = legacy, []

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(b"R")
        elif isinstance(obj, Stored):
            rebuild = "_rebuild_tensor" if self.legacy else "_rebuild_tensor_v2"
            extra = () if self.legacy else (False, collections.OrderedDict())
            storage = next((each for each in self.storages if each.array is obj.array), None)
            if storage is None:
                storage = _Storage(obj.array, str(len(self.storages)))
                self.storages.append(storage)
            self.save(Call(Global("torch._utils", rebuild), storage, obj.offset, obj.shape, obj.strides, *extra))
        elif isinstance(obj, _Storage):
            kind = Global("torch.cuda" if self.legacy else "torch", _KINDS[obj.array.dtype.name])
            view = (None,) if self.legacy else ()
            self.save(("storage", kind, obj.key, "cpu", obj.array.size, *view))
            self.write(b"Q")
        else:
            super().save(obj, save_persistent_id)


class _Storage:
    def __init__(self, array, key):
        self.array, self.key = array, key


def _pickled(obj, legacy):
    file = io.BytesIO()
    pickler = _Pickler(file, legacy)
    pickler.dump(obj)
    return file.getvalue(), pickler.storages


def zipped(obj):
    """The format since PyTorch 1.6."""
    program, storages = _pickled(obj, legacy=False)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", "little")
        for storage in storages:
            archive.writestr(f"archive/data/{storage.key}", storage.array.tobytes())
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def sequential(obj):
    """The format of PyTorch 0.3 to 1.5."""
    program, storages = _pickled(obj, legacy=True)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = [pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    tail = [pickle.dumps([storage.key for storage in storages], protocol=2)]
    for storage in storages:
        tail += [struct.pack("<q", storage.array.size), storage.array.tobytes()]
    return b"".join([*head, program, *tail])


FORMATS = {"zip": zipped, "sequence": sequential}
