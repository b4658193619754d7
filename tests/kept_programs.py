"""The compiled programs that tests keep from one run to the next, in `.jax_cache` of the checkout.

Workers and the processes that tests start share one folder. A program that another process has half written, or that is damaged,
is compiled again.
"""

import contextlib
import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".jax_cache"
#: The most that programs of all versions may take, in bytes, when a run of the tests starts.
LIMIT = 2 * 2**30


def folder_of_programs() -> Path:
    """The folder of this JAX, on this processor: programs hold instructions that another one may not know."""
    versions = "-".join(metadata.version(name) for name in ("jax", "jaxlib"))
    return CACHE / f"{versions}-{platform.machine()}-{_processor()}"


def environment() -> dict[str, str]:
    """The variables by which JAX keeps every program, however soon it is compiled; those that are set already stay.

    They are set before jax is imported, and so hold in the processes that tests start.
    """
    wanted = {
        "JAX_COMPILATION_CACHE_DIR": str(folder_of_programs()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


def remove_oldest(folder: Path = CACHE, limit: int = LIMIT) -> None:
    """Removes the files that were used longest ago until all of a folder take no more than the limit, in bytes."""
    files = []
    for path in folder.rglob("*"):
        # Another run of the tests may remove it at the same time.
        with contextlib.suppress(OSError):
            status = path.lstat()
            if path.is_file():
                files.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    excess = sum(size for _, size, _ in files) - limit
    for _, size, path in sorted(files):
        if excess <= 0:
            break
        with contextlib.suppress(OSError):
            path.unlink()
        excess -= size


def _processor() -> str:
    """A short name for what the system says of the processor's instructions; that of nothing where it says nothing."""
    lines = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    told = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:8]
