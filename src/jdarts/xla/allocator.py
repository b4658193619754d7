"""Freed memory stays with the process, so that the next step does not wait for the system to clear it again.

XLA takes the memory of all intermediate arrays anew in every execution on a CPU, gigabytes for a search at the paper's size,
and gives it back at its end. The C library returns such large pieces to the system, which hands out cleared pages.
"""

import ctypes
from typing import Any

import jax

# Parameters of mallopt(3), as in malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_OPTIONS = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))


def keep_freed_memory() -> bool:
    """Tells the C library to keep the memory that this process frees; for the whole process, until it ends.

    Searches and trainings on one device begin with it. A notebook that searches on a CPU calls it before JAX's first
    computation. Only glibc has what it takes; elsewhere nothing changes.

    Returns:
      Whether memory is kept.
    """
    library = _glibc()
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


def _glibc() -> Any:
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "gnu_get_libc_version") else None
    except (OSError, TypeError):
        return None
