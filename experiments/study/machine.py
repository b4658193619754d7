"""The machine that measures."""

import os
import platform
from importlib import metadata
from typing import Any

import jax

from jdarts.files.processor import processor_name

_PACKAGES = ("jdarts", "jax", "jaxlib", "flax", "optax", "numpy")


def machine() -> dict[str, Any]:
    """Processor, cores, devices, and versions of the packages."""
    devices = jax.devices()
    return {
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)),
        "devices": f"{len(devices)} {devices[0].platform.upper()}",
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
    }
