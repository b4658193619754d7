"""The processor of this machine, as far as the system shows it."""

import platform
from pathlib import Path


def processor_name() -> str:
    """The name of the processor's model."""
    names = [line.partition(":")[2].strip() for line in _lines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def processor_features() -> str:
    """What `-march=native` depends on."""
    features = {line for line in _lines() if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return "\n".join([platform.machine(), platform.processor(), *sorted(features)])


def _lines() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return []
