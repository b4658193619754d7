"""Native libraries: compiled for this machine on first use, and kept in the user's cache folder."""

import contextlib
import ctypes
import hashlib
import logging
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, TypeVar

import jax

from jdarts.files.locked_folders import abandoned_folder, locked_folder
from jdarts.files.processor import processor_features
from jdarts.files.user_cache import cache_folder, is_private_file, private_folder, remove

_FLAGS = ("-O3", "-std=c++17", "-fPIC", "-DNDEBUG")
_LINKED = ("-ldl",)
_TIMEOUT_S = 600

Loaded = TypeVar("Loaded")

_log = logging.getLogger(__name__)


class BuildError(Exception):
    """A native library cannot be built on this machine; the text says why, for a log line."""


class Library(NamedTuple):
    """A native library.

    Attributes:
      name: the start of its file's name.
      sources: files of the folder, each compiled by a separate process.
      number: the type of its numbers, in C++.
      folder: where its sources are, in the folder of this file.
      options: further options of the compiler.
    """

    name: str
    sources: tuple[str, ...]
    number: str
    folder: str = "kernel"
    options: tuple[str, ...] = ()

    @property
    def source_folder(self) -> Path:
        """The folder of its sources."""
        return Path(__file__).parent / self.folder


def load_library(library: Library) -> ctypes.CDLL:
    """Loads a native library from the cache folder, after building it there if necessary.

    The name of the file depends on its inputs (sources, jaxlib, compiler, flags, processor) and on its
    content, so a stale or damaged one is never loaded, nor one that another user may have put there. If the
    cache folder cannot be written or belongs to others, the library is built in a temporary folder for this
    process alone.

    Raises:
        BuildError: if there is no compiler, it fails, or its result cannot be loaded.
    """
    compiler = find_compiler()
    return kept_file(_key(compiler, library), lambda folder: _compile(compiler, library, folder), _load)


def is_kept(library: Library) -> bool:
    """Whether the cache folder has the library, so that loading it builds nothing.

    Raises:
      BuildError: there is no compiler.
      OSError: there is no cache folder.
    """
    key, folder = _key(find_compiler(), library), cache_folder()
    return any(_is_sound(path, key) for path in folder.glob(f"{key}-*"))


def kept_file(key: str, make: Callable[[Path], Path], load: Callable[[Path], Loaded]) -> Loaded:
    """Loads a file from the cache folder, after making it there if necessary.

    Args:
      key: the start of its name, with a digest of all that it depends on.
      make: makes the file in a folder.
      load: reads it.
    """
    try:
        path = _kept(key, make)
    except OSError as error:
        _log.warning("the native kernels are built for this process alone: no cache folder (%s)", error)
        with tempfile.TemporaryDirectory(prefix="jdarts-") as folder:
            return load(make(Path(folder)))
    return load(path)


def _kept(key: str, make: Callable[[Path], Path]) -> Path:
    """The file in the cache folder; if there is none, it is made in a locked folder there and then moved."""
    folder = private_folder(cache_folder())
    for build_folder in folder.glob("build-*"):
        # A running build keeps its folder locked.
        with contextlib.suppress(OSError), abandoned_folder(build_folder):
            pass
    for path in sorted(folder.glob(f"{key}-*")):
        if _is_sound(path, key):
            return path
        remove(path)
    with locked_folder(folder, "build-") as build_folder:
        made = make(build_folder)
        made.chmod(0o700)
        path = folder / _file_name(key, made)
        os.replace(made, path)
    return path


def find_compiler() -> list[str]:
    """The command of the C++ compiler: `$CXX` (which may carry options), else the first of c++, g++, clang++.

    Raises:
        BuildError: if there is none.
    """
    configured = shlex.split(os.environ.get("CXX", ""))
    for command in [configured] if configured else [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(command[0]):
            return command
    raise BuildError(f"no C++ compiler ({' '.join(configured) or 'c++, g++, clang++'}) found; set CXX to name one")


def has_compiler() -> bool:
    """Whether `find_compiler` finds one."""
    try:
        return bool(find_compiler())
    except BuildError:
        return False


def _run(command: list[str]) -> str:
    (output,) = _run_together([command])
    return output


def _run_together(commands: list[list[str]]) -> list[str]:
    """The outputs of commands that run at the same time."""
    started: list[subprocess.Popen[str]] = []
    try:
        started.extend(map(_started, commands))
        return [_output(command[0], process) for command, process in zip(commands, started)]
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _started(command: list[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,  # Ctrl-C stops the run, not the compiler
        )
    except OSError as error:
        raise BuildError(f"{command[0]} did not run: {error}") from error


def _output(compiler: str, process: subprocess.Popen[str]) -> str:
    try:
        output, errors = process.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{compiler} did not end in {_TIMEOUT_S} s") from error
    if process.returncode:
        lines = [line for line in errors.splitlines() if "error" in line] or errors.splitlines()
        raise BuildError(f"{compiler} failed with exit code {process.returncode}: {' '.join(lines[:1])}".strip(": "))
    return output


def _compile(compiler: list[str], library: Library, folder: Path) -> Path:
    _log.info("building the native library of %s for %s with %s (once)", library.name, library.number, compiler[0])
    try:
        objects = _compile_sources([*compiler, "-march=native"], library, folder)
    except BuildError:
        # Some compilers do not know the option for some processors.
        objects = _compile_sources(compiler, library, folder)
    path = folder / f"{library.name}.so"
    _run([*compiler, "-shared", *map(str, objects), "-o", str(path), *_LINKED])
    return path


def _compile_sources(compiler: list[str], library: Library, folder: Path) -> list[Path]:
    flags = [*_FLAGS, *library.options, f"-DJDARTS_TYPE={library.number}", f"-isystem{jax.ffi.include_dir()}"]
    objects = [folder / f"{source}.o" for source in library.sources]
    _run_together(
        [
            [*compiler, *flags, "-c", str(library.source_folder / source), "-o", str(path)]
            for source, path in zip(library.sources, objects)
        ]
    )
    return objects


def _load(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"the built library does not load: {error}") from error


def _key(compiler: list[str], library: Library) -> str:
    """The start of the names of the library's files: its name, its type of numbers, and a digest of its inputs."""
    parts = [path.name.encode() + path.read_bytes() for path in sorted(library.source_folder.iterdir())]
    jaxlib = metadata.version("jaxlib")
    parts += [repr(part).encode() for part in (compiler, _FLAGS, library, jaxlib, processor_features())]
    parts.append(_run([*compiler, "--version"]).encode())
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    return f"{library.name}-{library.number}-{digest}"


def _is_sound(path: Path, key: str) -> bool:
    """Whether a kept file is this user's, and has the content that its name says."""
    return is_private_file(path) and path.name == _file_name(key, path)


def _file_name(key: str, path: Path) -> str:
    return f"{key}-{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}{path.suffix}"
