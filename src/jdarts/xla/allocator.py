"""Freed memory stays with the process, so that the next step does not wait for the system to clear it again.

XLA takes the memory of all intermediate arrays again in every execution on a CPU, gigabytes for a search at the paper's size,
and gives it back at its end. The C library returns such large pieces to the system, which hands out cleared pages.
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
    """Lets the C library keep the memory that this process frees; for the whole process, until it ends.

    Searches and trainings on one device begin with it. A notebook that searches on a CPU calls it before JAX's first
    computation. Programs then run on the thread that calls them (`jax_cpu_enable_async_dispatch` is off). Only glibc has
    what it takes; elsewhere, and where JAX computes on an accelerator, nothing changes.

    Returns:
      Whether memory is kept.
    """
    library = _glibc() if _computes_on_cpus() else None
    if library is None or not all([library.mallopt(option, value) for option, value in _OPTIONS]):
        return False
    # The main thread's memory alone grows to gigabytes, so programs are run by the thread that calls them.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return True


def return_freed_memory() -> None:
    """Returns what is free at this moment to the system: a compiler has needed gigabytes that steps do not need."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _computes_on_cpus() -> bool:
    """Whether JAX's default device will be a CPU, without asking JAX, which would have to choose its devices for that."""
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
