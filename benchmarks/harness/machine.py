"""The machine and the versions that figures belong to."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata

from jdarts.files.processor import processor_name
from jdarts.native.build import BuildError, find_compiler

from .limits import cores

_PACKAGES = ("jax", "jaxlib", "torch")


def describe() -> str:
    """Date, processor, cores, and versions of all that the steps are made of, in one line."""
    versions = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    versions.append(f"native kernels: {compiler()}")
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    return f"{today}, {processor_name()}, {cores()} cores; {', '.join(versions)}"


def compiler() -> str:
    """Name and version of the compiler of the native kernels, or that there are none."""
    if os.environ.get("JDARTS_NATIVE") == "0":
        return "none"
    try:
        told = subprocess.run([*find_compiler(), "--version"], capture_output=True, text=True, check=True)
    except (BuildError, OSError, subprocess.CalledProcessError):
        return "none"
    return (told.stdout.strip().splitlines() or ["unknown"])[0]
