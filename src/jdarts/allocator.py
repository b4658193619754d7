"""Freed memory stays with the process, so that the next step does not wait for the system to clear it again.

XLA takes the memory of all intermediate arrays anew in every execution on a CPU, gigabytes for a search at the paper's size,
and gives it back at its end. The C library returns such large pieces to the system, which hands out cleared pages: a fifth of a
step went into clearing.
"""

import ctypes
from collections.abc import Mapping

# Parameters of mallopt(3), as in malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Tells the C library to keep the memory that this process frees; for the whole process, until it ends.

    All commands begin with it. A notebook that searches on a CPU calls it before JAX's first computation: threads that have
    taken memory already keep their own ways. Only glibc has what it takes; elsewhere nothing changes.

    Returns:
      Whether memory is kept.
    """
    # One arena: another one cannot grow to gigabytes, and takes its large pieces from the system.
    return _set_options({_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _ARENA_MAX: 1})


def return_freed_memory() -> bool:
    """Lets the C library return freed memory to the system again, where it is the last piece that the process has.

    For steps that need much of the machine: kept memory can be twice that of a step, where one begins before the memory of the
    last one is free.

    Returns:
      Whether the C library could be told.
    """
    return _set_options({_TRIM_THRESHOLD: 128 * 1024})


def _set_options(options: Mapping[int, int]) -> bool:
    try:
        library = ctypes.CDLL(None)
        is_glibc, set_option = hasattr(library, "gnu_get_libc_version"), library.mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return is_glibc and all([set_option(option, value) == 1 for option, value in options.items()])
