"""The memory of this machine."""

from pathlib import Path


def available_bytes() -> int | None:
    """Bytes that the machine has available for new programs; None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
