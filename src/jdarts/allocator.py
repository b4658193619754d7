"""Freed memory stays with the process, so that the next step does not wait for the system to clear it again.

XLA takes the memory of all intermediate arrays anew in every execution on a CPU, gigabytes for a search at the paper's size,
and gives it back at its end. The C library returns such large pieces to the system, which hands out cleared pages: a fifth of a
step went into clearing.
"""

import ctypes
from collections.abc import Mapping
from typing import Any

# Parameters of mallopt(3), as in malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory(keep: bool = True) -> bool:
    """Tells the C library to keep the memory that this process frees; for the whole process, until it ends.

    All commands begin with it. A notebook that searches on a CPU calls it before JAX's first computation: threads that have
    taken memory already keep their own ways. Only glibc has what it takes; elsewhere nothing changes.

    Args:
      keep: False to return memory again from here on. For steps that need much of the machine: kept memory can be twice that of
        a step, where one begins before the memory of the last one is free.

    Returns:
      Whether the C library could be told.
    """
    if not keep:
        return _set_options({_TRIM_THRESHOLD: 128 * 1024})
    # One arena: another one cannot grow to gigabytes, and takes its large pieces from the system.
    return _set_options({_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _ARENA_MAX: 1})


def return_freed_memory() -> None:
    """Returns what is free at this moment to the system: a compiler has needed gigabytes that steps do not need."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _set_options(options: Mapping[int, int]) -> bool:
    library = _glibc()
    return library is not None and all([library.mallopt(option, value) == 1 for option, value in options.items()])


def _glibc() -> Any:
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "gnu_get_libc_version") else None
    except (OSError, TypeError):
        return None
