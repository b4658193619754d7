"""The libraries of native functions, and how their functions become known to XLA.

There is one library for each kind of network, and each type of numbers, since their compilation takes seconds. A library is
built when a program needs it, or earlier, while the process does something else.
"""

import ctypes
import functools
import logging
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import jax
import numpy as np

from jdarts.native.build import BuildError, Library, load_library

_log = logging.getLogger(__name__)

#: The types of numbers that there are native functions for, by the name that C++ gives them.
NUMBERS: Mapping[Any, str] = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}

IMAGES, RECURRENT, LEAVES = "images", "recurrent", "leaves"
_SOURCES = {
    IMAGES: ("images.cc", "tiles.cc", "matrices.cc"),
    RECURRENT: ("recurrent.cc",),
    LEAVES: ("leaves.cc",),
}

_lock = threading.Lock()
_loading: dict[Library, Future[ctypes.CDLL | None]] = {}
_known: set[str] = set()


def build_for_images(precision: Any) -> None:
    """Begins to build, in the background, what programs of networks for images are about to need on a CPU.

    Args:
      precision: the type of feature maps; that of weights is float32.
    """
    _build_early((IMAGES, np.dtype(precision)), (LEAVES, np.dtype(np.float32)))


def build_for_text() -> None:
    """Begins to build, in the background, what programs of networks for text are about to need on a CPU."""
    _build_early((RECURRENT, np.dtype(np.float32)), (LEAVES, np.dtype(np.float32)))


def is_switched_off() -> bool:
    """Whether the environment asks for XLA's own operations."""
    return os.environ.get("JDARTS_NATIVE") == "0"


def _build_early(*libraries: tuple[str, np.dtype]) -> None:
    if jax.default_backend() == "cpu" and not is_switched_off():
        for name, dtype in libraries:
            if dtype in NUMBERS:
                _loaded(name, dtype)


def make_known(function: str, name: str, dtype: np.dtype) -> bool:
    """Lets XLA know a function, after its library is built.

    Args:
      function: one of the library's.
      name: the library.
      dtype: the type of its numbers.

    Returns:
      Whether there is the library.
    """
    library = _loaded(name, dtype).result()
    if library is None:
        return False
    known_as = target(function, dtype)
    with _lock:
        if known_as not in _known:
            capsule = jax.ffi.pycapsule(getattr(library, f"jdarts_{function}"))
            jax.ffi.register_ffi_target(known_as, capsule, platform="cpu")
            _known.add(known_as)
    return True


def target(function: str, dtype: np.dtype) -> str:
    """The name by which XLA knows a function for a type of numbers."""
    return f"jdarts_{function}_{dtype.name}"


def _loaded(name: str, dtype: np.dtype) -> Future[ctypes.CDLL | None]:
    """A library, or None where it cannot be built."""
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
        _say_without(str(error))
        return None


@functools.cache
def _say_without(reason: str) -> None:
    _log.warning("XLA's own operations take the place of the native kernels, many times slower on a CPU: %s", reason)
