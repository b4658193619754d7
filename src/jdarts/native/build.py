"""The native library: compiled at first use for this machine, and kept in the user's cache folder."""

import contextlib
import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path

import jax

from jdarts.files.locked_folders import abandoned_folder, locked_folder
from jdarts.files.user_cache import cache_folder, is_private_file, private_folder, remove

_SOURCES = Path(__file__).parent / "kernel"
_FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-DNDEBUG")
_TIMEOUT_S = 600

_log = logging.getLogger(__name__)


class BuildError(Exception):
    """The native library cannot be had on this machine; the text says why, for a log line."""


def load_library() -> ctypes.CDLL:
    """Load the native library from the cache folder, after building it there if need be.

    A cached file is named after what it was built from (sources, jaxlib, compiler, flags, processor) and
    after its own contents, so a stale or damaged one is never loaded, and neither is one that another user
    may have put there. Where the cache folder cannot be written or others have a hand in it, the library is
    built in a temporary folder for this process alone.

    Raises:
        BuildError: if there is no compiler, it fails, or its result cannot be loaded.
    """
    compiler = find_compiler()
    key = _key(compiler)
    try:
        path = _cached(compiler, key)
    except OSError as error:
        _log.warning("the native kernels are built for this process alone: no cache folder (%s)", error)
        with tempfile.TemporaryDirectory(prefix="jdarts-") as folder:
            return _load(_compile(compiler, Path(folder)))
    return _load(path)


def _cached(compiler: list[str], key: str) -> Path:
    """The library in the cache folder; built there under a name of its own and then moved, if there is none."""
    folder = private_folder(cache_folder())
    for workshop in folder.glob("build-*"):
        # A build that runs now keeps its own.
        with contextlib.suppress(OSError), abandoned_folder(workshop):
            pass
    for path in sorted(folder.glob(f"kernels-{key}-*.so")):
        if is_private_file(path) and path.name == _file_name(key, path):
            return path
        remove(path)
    with locked_folder(folder, "build-") as workshop:
        built = _compile(compiler, workshop)
        built.chmod(0o700)
        path = folder / _file_name(key, built)
        os.replace(built, path)
    return path


def find_compiler() -> list[str]:
    """The command of the C++ compiler: `$CXX` (which may carry options), else the first of c++, g++, clang++.

    Raises:
        BuildError: if there is none.
    """
    chosen = shlex.split(os.environ.get("CXX", ""))
    for command in [chosen] if chosen else [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(command[0]):
            return command
    raise BuildError(f"no C++ compiler ({' '.join(chosen) or 'c++, g++, clang++'}) found; set CXX to name one")


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]} did not run: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise BuildError(f"{command[0]} failed with exit code {done.returncode}: {' '.join(lines[:1])}".strip(": "))
    return done.stdout


def _compile(compiler: list[str], folder: Path) -> Path:
    _log.info("building the native kernels with %s (about a minute, once)", compiler[0])
    library = folder / "kernels.so"
    command = [
        *compiler,
        *_FLAGS,
        f"-isystem{jax.ffi.include_dir()}",
        str(_SOURCES / "ffi.cc"),
        "-o",
        str(library),
    ]
    try:
        _run([*command, "-march=native"])
    except BuildError:
        _run(command)  # some compilers do not know the option for some processors
    return library


def _load(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"the built library does not load: {error}") from error


def _key(compiler: list[str]) -> str:
    parts = [path.name.encode() + path.read_bytes() for path in sorted(_SOURCES.iterdir())]
    parts += [repr(part).encode() for part in (compiler, _FLAGS, metadata.version("jaxlib"), _processor())]
    parts.append(_run([*compiler, "--version"]).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> str:
    """What `-march=native` depends on, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    told = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return "\n".join([platform.machine(), platform.processor(), *sorted(told)])


def _file_name(key: str, path: Path) -> str:
    return f"kernels-{key}-{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}.so"
