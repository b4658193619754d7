"""Devices, native kernels, caches and prepared data of this machine."""

import contextlib
import os
from pathlib import Path

import jax

from jdarts.budget.latency_table import read_table
from jdarts.data.catalogue import CATALOGUE
from jdarts.data.prepared import data_directory, find_prepared
from jdarts.doctor.findings import Finding
from jdarts.errors import InputError
from jdarts.files.processor import processor_name
from jdarts.files.user_cache import cache_folder
from jdarts.native import gpu
from jdarts.native.build import BuildError
from jdarts.native.libraries import is_disabled, kept_libraries
from jdarts.runs.memory import available_memory, format_bytes
from jdarts.xla.platform import target_platform


def devices() -> list[Finding]:
    """The devices that JAX sees, and their memory."""
    if problem := _device_problem():
        mend = "JAX_PLATFORMS=cpu runs without an accelerator; https://docs.jax.dev/en/latest/installation.html installs for one"
        return [Finding("devices", problem, "wrong", mend)]
    present = jax.devices()
    kinds = sorted({each.device_kind for each in present})
    found = [Finding("devices", f"{len(present)} {present[0].platform.upper()}: {', '.join(kinds)}")]
    memory = available_memory()
    if memory is not None:
        found.append(Finding("memory", f"{format_bytes(memory)} available"))
    if present[0].platform == "cpu":
        found.append(Finding("processor", f"{processor_name()}, {len(os.sched_getaffinity(0))} cores for this process"))
    return found


def _device_problem() -> str | None:
    """Why JAX has no device; None if it has one."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        # JAX asserts that it has a backend: it has none where JAX_PLATFORMS names a plug-in that is not installed.
        return str(error).partition("\n")[0] or "JAX finds no device for the platforms that JAX_PLATFORMS names"
    return None


def native_kernels() -> list[Finding]:
    """Whether the native kernels of this device are built, or why they are not."""
    if _device_problem():
        return [Finding("native kernels", "unknown without a device")]
    platform = target_platform()
    if platform not in ("cpu", "gpu"):
        return [Finding("native kernels", "are for CPUs and NVIDIA GPUs; this device runs XLA's operations")]
    if is_disabled():
        mend = "unset JDARTS_NATIVE for steps that are several times faster"
        return [Finding("native kernels", "switched off by JDARTS_NATIVE=0", "slow", mend)]
    try:
        kept = kept_libraries() if platform == "cpu" else gpu.kept_libraries()
    except BuildError as error:
        mend = "install a C++ compiler (g++ or clang++), or name one in CXX"
        mend += "; for a GPU also jax[cuda12] or jax[cuda13]" if platform == "gpu" else ""
        return [Finding("native kernels", f"cannot be built: {error}", "slow", mend)]
    except OSError as error:
        mend = "give XDG_CACHE_HOME a folder that only you may write to"
        return [Finding("native kernels", f"cannot be kept, each process builds its own: {error}", "slow", mend)]
    return [
        Finding(
            f"kernels of {name}",
            "built" if built else "not built yet; the first command that needs them builds them, once",
        )
        for name, built in kept.items()
    ]


def caches() -> list[Finding]:
    """What the user's cache folder holds."""
    try:
        folder = cache_folder()
        sizes = {path: _size(path) for path in folder.rglob("*")}
    except OSError as error:
        mend = "give XDG_CACHE_HOME a folder that only you may write to"
        return [Finding("cache", f"no cache folder: {error}; nothing is kept for the next start", "slow", mend)]
    programs = {path: size for path, size in sizes.items() if folder / "programs" in path.parents}
    stored = sum(path.match("*-cache") for path in programs)
    return [
        Finding("cache", f"{folder}; it may be removed at any time"),
        Finding("programs", f"{stored} compiled programs, {format_bytes(sum(programs.values()))}"),
        Finding("other files", format_bytes(sum(sizes.values()) - sum(programs.values()))),
        Finding("latencies", _latencies()),
        Finding("first step", _cost_of_first_step(stored)),
    ]


def _latencies() -> str:
    """What the table of latencies of this device holds."""
    if _device_problem():
        return "unknown without a device"
    try:
        table = read_table()
    except InputError as error:
        return str(error)
    if not table.entries:
        return "none measured on this device; jdarts describe DARTS_V2 --latency measures some"
    dates = sorted(each.date for each in table.entries.values())
    return f"{len(dates)} measured on this device ({table.device}), from {dates[0]} to {dates[-1]}: {table.path}"


def data_sets() -> list[Finding]:
    """The image sets that are prepared on this machine."""
    found = [Finding("digits", "part of scikit-learn, needs no preparation")]
    present = []
    for name, entry in CATALOGUE.items():
        try:
            if find_prepared(name, entry):
                present.append(name)
        except InputError as error:
            found.append(Finding(name, str(error), "wrong", f"jdarts data prepare {name} --overwrite"))
    text = f"{', '.join(present) or 'none'} in {data_directory(None)}"
    mend = "" if present else "jdarts data prepare cifar10"
    return [*found, Finding("prepared sets", text, mend=mend)]


def _cost_of_first_step(stored: int) -> str:
    if stored:
        return (
            "a command that ran with the same settings takes its programs from the cache; other settings are compiled"
        )
    return "the first command compiles its programs: half a minute for digits, minutes for networks of the paper's size"


def _size(path: Path) -> int:
    # Another process may remove a file meanwhile.
    with contextlib.suppress(FileNotFoundError):
        if path.is_file():
            return path.stat().st_size
    return 0
