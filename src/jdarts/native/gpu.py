"""The library of native functions for NVIDIA's GPUs, and the registration of its functions with XLA.

The library launches device functions that `nvrtc` compiles. A program can be compiled where no GPU is, for another machine's:
then there are no device functions, and the program cannot run.
"""

import contextlib
import contextvars
import ctypes
import functools
import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.native.build import BuildError, Library, is_kept, load_library
from jdarts.native.libraries import is_disabled
from jdarts.native.nvrtc import compiler, device_functions
from jdarts.xla.environment import separable_form

_log = logging.getLogger(__name__)

#: The types of maps, with their names in the sources.
MAPS: Mapping[Any, str] = {
    np.dtype(np.float32): "float",
    np.dtype(np.float64): "double",
    np.dtype(jnp.bfloat16): "jdarts_cuda::bfloat16",
}

#: The sources of device functions: those of every library, and those that some functions of it launch besides.
_DEVICE_FUNCTIONS = "device.cu"
_OTHER_DEVICE_FUNCTIONS: Mapping[str, str] = dict.fromkeys(
    ("separable", "separable_back", "separable_pull"), "separable.cu"
)

_EMULATED = "-DJDARTS_EMULATED"
_emulated: contextvars.ContextVar[bool] = contextvars.ContextVar("emulated", default=False)
_lock = threading.Lock()
_building = threading.Lock()
_registered: set[str] = set()


@contextlib.contextmanager
def emulated() -> Iterator[None]:
    """Programs for CPUs call the functions for GPUs, whose threads run in turn: for tests of the device functions."""
    token = _emulated.set(True)
    try:
        yield
    finally:
        _emulated.reset(token)


def is_emulated() -> bool:
    """Whether programs for CPUs call the functions for GPUs."""
    return _emulated.get()


def register_function(function: str, dtype: Any) -> str | None:
    """Registers a function with XLA, after the library is built and its device functions are compiled.

    Args:
      function: a function of the library.
      dtype: the type of its maps.

    Returns:
      The name by which XLA knows the function; None if there is no library, or none for the type.
    """
    dtype, emulated = np.dtype(dtype), is_emulated()
    if dtype not in MAPS or is_disabled():
        return None
    library = _library(dtype, emulated)
    if library is None or not (emulated or _has_device_functions_of(function, dtype, library)):
        return None
    name = f"jdarts_{'emulated' if emulated else 'gpu'}_{function}_{dtype.name}"
    with _lock:
        if name not in _registered:
            stages = {"execute": _capsule(library, function)}
            if not emulated:
                stages["initialize"] = _capsule(library, "prepare")
            jax.ffi.register_ffi_target(name, stages, platform="cpu" if emulated else "CUDA")
            _registered.add(name)
    return name


def _capsule(library: ctypes.CDLL, function: str) -> Any:
    return jax.ffi.pycapsule(getattr(library, f"jdarts_{function}"))


def begin_building(*dtypes: np.dtype) -> None:
    """Starts building libraries in the background, one for each type of maps, and compiling their device functions.

    Raises:
      InputError: the environment names an unknown form of separable convolutions.
    """
    function = "separable" if separable_form() == "fused" else "combine"
    for dtype in dtypes:
        if dtype in MAPS:
            arguments = (function, dtype)
            threading.Thread(target=_build_for, args=arguments, daemon=True, name=f"building for {dtype}").start()


def _build_for(function: str, dtype: np.dtype) -> None:
    library = _library(dtype, False)
    if library is not None:
        _has_device_functions_of(function, dtype, library)


def kept_libraries() -> dict[str, bool]:
    """Whether the library for maps of float32 is built.

    Raises:
      BuildError: there is no C++ compiler, or no compiler of device functions.
      OSError: there is no cache folder.
    """
    compiler()
    return {"GPUs": is_kept(_sources(MAPS[np.dtype(np.float32)], emulated=False))}


def _library(dtype: np.dtype, emulated: bool) -> ctypes.CDLL | None:
    """The library; None if it cannot be built. Waits for one that is being built."""
    with _building:
        return _built(dtype, emulated)


@functools.cache
def _built(dtype: np.dtype, emulated: bool) -> ctypes.CDLL | None:
    number = MAPS[dtype]
    try:
        library = load_library(_sources(number, emulated=emulated))
        if not emulated:
            _load_device_functions(library, _DEVICE_FUNCTIONS, number)
    except BuildError as error:
        _warn_without_library(str(error))
        return None
    return library


def _sources(number: str, *, emulated: bool) -> Library:
    # Optimising takes longer than what tests compute.
    options = (_EMULATED, "-O0", "-Wno-unknown-pragmas") if emulated else ()
    return Library("emulated" if emulated else "gpu", ("calls.cc",), number, "cuda", options)


def _has_device_functions_of(function: str, dtype: np.dtype, library: ctypes.CDLL) -> bool:
    """Whether a library has the device functions of one of its functions, after they are compiled and loaded."""
    with _building:
        main = _OTHER_DEVICE_FUNCTIONS.get(function)
        return main is None or _has_others(main, MAPS[dtype], library)


@functools.cache
def _has_others(main: str, number: str, library: ctypes.CDLL) -> bool:
    try:
        _load_device_functions(library, main, number)
    except BuildError as error:
        _warn_without_library(str(error))
        return False
    return True


def _load_device_functions(library: ctypes.CDLL, main: str, number: str) -> None:
    try:
        devices = jax.local_devices(backend="cuda")
    except RuntimeError:
        return
    capabilities = {device.compute_capability for device in devices}
    if len(capabilities) > 1:
        raise BuildError(f"the GPUs differ in compute capability ({', '.join(sorted(capabilities))})")
    library.jdarts_load.restype = ctypes.c_char_p
    failure = library.jdarts_load(device_functions(main, number, capabilities.pop()))
    if failure is not None:
        raise BuildError(failure.decode())


@functools.cache
def _warn_without_library(reason: str) -> None:
    _log.warning("XLA's own operations take the place of the native functions for GPUs: %s", reason)
