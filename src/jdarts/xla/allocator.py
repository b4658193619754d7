"""Freed memory stays with the process, so that the next step does not wait for the system to clear it again.

On a CPU, XLA allocates the memory of all intermediate arrays in every execution, gigabytes for a search at the paper's size, and
frees it at its end. The C library returns such large pieces to the system, which clears pages before it gives them out.
"""

import ctypes
import importlib.util
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

# Parameters of mallopt(3), as in malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_OPTIONS = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))
#: Where Linux shows accelerators: GPUs of NVIDIA (also under Windows), of AMD and Intel, and TPUs.
_ACCELERATORS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd", "/dev/dri", "/dev/accel0", "/dev/vfio")


def keep_freed_memory() -> bool:
    """Makes the C library keep the memory that this process frees, until the process ends.

    Searches and trainings on one device call it first. A notebook that searches on a CPU should call it before JAX's first
    computation. Programs then run on the thread that calls them (`jax_cpu_enable_async_dispatch` is off). Only glibc supports
    this; with other C libraries, and if JAX computes on an accelerator, nothing changes.

    Returns:
      Whether memory is kept.
    """
    library = _glibc() if _computes_on_cpus() else None
    if library is None or not all([library.mallopt(option, value) for option, value in _OPTIONS]):
        return False
    # Only the main thread's memory can grow to gigabytes, so programs run on the thread that calls them.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return True


def return_freed_memory() -> None:
    """Returns free memory to the system: a compiler uses gigabytes that steps do not need."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _computes_on_cpus() -> bool:
    """Whether JAX's default device will be a CPU, without making JAX choose its devices."""
    if platforms := jax.config.values["jax_platforms"]:
        return platforms.split(",")[0] == "cpu"
    has_plugin = bool(metadata.entry_points(group="jax_plugins")) or importlib.util.find_spec("libtpu") is not None
    return not (has_plugin and any(Path(path).exists() for path in _ACCELERATORS))


def _glibc() -> Any:
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "gnu_get_libc_version") else None
    except (OSError, TypeError):
        return None
