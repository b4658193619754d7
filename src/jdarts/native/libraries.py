"""The libraries of native functions, and the registration of their functions with XLA.

Each kind of network and each type of numbers has a separate library, since compiling one takes seconds. A library is built when a
program needs it, or earlier, while the process does something else.
"""

import ctypes
import functools
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import jax
import numpy as np

from jdarts.native.build import BuildError, Library, is_kept, load_library
from jdarts.xla.environment import native_functions

_log = logging.getLogger(__name__)

#: The types of numbers of native functions, with their names in C++.
NUMBERS: Mapping[Any, str] = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}

IMAGES, RECURRENT, LEAVES = "images", "recurrent", "leaves"
_SOURCES = {
    IMAGES: ("images.cc", "tiles.cc", "matrices.cc"),
    RECURRENT: ("recurrent.cc",),
    LEAVES: ("leaves.cc",),
}

_lock = threading.Lock()
_loading: dict[Library, Future[ctypes.CDLL | None]] = {}
_registered: set[str] = set()


def is_disabled() -> bool:
    """Whether the environment asks for XLA's own operations.

    Raises:
      InputError: it says neither that nor the opposite.
    """
    return not native_functions()


def begin_building(name: str, dtype: Any) -> None:
    """Starts building a library in the background, if there is one for the type of numbers."""
    dtype = np.dtype(dtype)
    if dtype in NUMBERS:
        _loaded(name, dtype)


def kept_libraries() -> dict[str, bool]:
    """Whether each library for float32 is built.

    Raises:
      BuildError: there is no compiler.
      OSError: there is no cache folder.
    """
    number = NUMBERS[np.dtype(np.float32)]
    return {name: is_kept(Library(name, sources, number)) for name, sources in _SOURCES.items()}


def register_function(function: str, name: str, dtype: np.dtype) -> bool:
    """Registers a function with XLA, after its library is built.

    Args:
      function: a function of the library.
      name: the library.
      dtype: the type of its numbers.

    Returns:
      Whether the library exists.
    """
    library = _loaded(name, dtype).result()
    if library is None:
        return False
    target_name = target(function, dtype)
    with _lock:
        if target_name not in _registered:
            capsule = jax.ffi.pycapsule(getattr(library, f"jdarts_{function}"))
            jax.ffi.register_ffi_target(target_name, capsule, platform="cpu")
            _registered.add(target_name)
    return True


def target(function: str, dtype: np.dtype) -> str:
    """The name by which XLA knows a function for a type of numbers."""
    return f"jdarts_{function}_{dtype.name}"


def _loaded(name: str, dtype: np.dtype) -> Future[ctypes.CDLL | None]:
    """A library, or None if it cannot be built."""
    library = Library(name, _SOURCES[name], NUMBERS[dtype])
    with _lock:
        if library not in _loading:
            _loading[library] = future = Future()

            def work() -> None:
                try:
                    future.set_result(_load(library))
                except BaseException as error:
                    future.set_exception(error)

            threading.Thread(target=work, daemon=True, name=f"building {name}").start()
        return _loading[library]


def _load(library: Library) -> ctypes.CDLL | None:
    try:
        return load_library(library)
    except BuildError as error:
        _warn_without_library(str(error))
        return None


@functools.cache
def _warn_without_library(reason: str) -> None:
    _log.warning("XLA's own operations take the place of the native kernels, many times slower on a CPU: %s", reason)
