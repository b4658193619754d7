"""CUDA's run-time compiler: device functions, compiled on first use for the GPU that runs them, and kept in the cache folder.

The compiler is a library, libnvrtc, that JAX's own packages for CUDA bring along.
"""

import ctypes
import ctypes.util
import functools
import hashlib
import importlib.util
import logging
from pathlib import Path

from jdarts.native.build import BuildError, kept_file

_log = logging.getLogger(__name__)

SOURCES = Path(__file__).parent / "cuda"
_OPTIONS = ("-std=c++17",)


def device_functions(main: str, number: str, capability: str) -> bytes:
    """The compiled device functions for a type of maps.

    Args:
      main: the source that has them.
      number: the type, as the sources name it.
      capability: the GPU's compute capability, as 9.0.

    Raises:
      BuildError: there is no libnvrtc, or it fails.
    """
    found = compiler()
    architecture = f"sm_{capability.replace('.', '')}"
    options = (*_OPTIONS, f"--gpu-architecture={architecture}", f"-DJDARTS_TYPE={number}")
    parts = [repr((found.version, main, options)).encode()]
    parts += [name.encode() + content for name, content in _sources().items()]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]

    def make(folder: Path) -> Path:
        _log.info("compiling the device functions of %s for %s and %s (once)", main, number, architecture)
        path = folder / "device.cubin"
        path.write_bytes(found.compile(main, _sources(), options))
        return path

    return kept_file(f"device-{number}-{architecture}-{digest}", make, Path.read_bytes)


@functools.cache
def _sources() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(SOURCES.iterdir()) if path.suffix in (".cu", ".cuh", ".h")}


class _Compiler:
    """The functions of libnvrtc that compile a program."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        self.version = (major.value, minor.value)

    def compile(self, main: str, sources: dict[str, bytes], options: tuple[str, ...]) -> bytes:
        """The machine code of a source, which may include the others."""
        library, program = self._library, ctypes.c_void_p()
        headers = {name: content for name, content in sources.items() if name != main}
        count = len(headers)
        self._check(
            library.nvrtcCreateProgram(
                ctypes.byref(program),
                sources[main],
                main.encode(),
                count,
                (ctypes.c_char_p * count)(*headers.values()),
                (ctypes.c_char_p * count)(*(name.encode() for name in headers)),
            )
        )
        try:
            encoded = [option.encode() for option in options]
            code = library.nvrtcCompileProgram(program, len(encoded), (ctypes.c_char_p * len(encoded))(*encoded))
            if code:
                lines = self._read(program, "ProgramLog").decode(errors="replace").splitlines()
                raise BuildError(
                    f"libnvrtc failed: {next((line for line in lines if 'error' in line), self._name(code))}"
                )
            return self._read(program, "CUBIN")
        finally:
            library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        content = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, content))
        return content.raw

    def _check(self, code: int) -> None:
        if code:
            raise BuildError(f"libnvrtc failed: {self._name(code)}")

    def _name(self, code: int) -> str:
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        return self._library.nvrtcGetErrorString(code).decode()


@functools.cache
def compiler() -> _Compiler:
    """The run-time compiler.

    Raises:
      BuildError: there is no libnvrtc.
    """
    tried = [*_packaged(), *filter(None, [ctypes.util.find_library("nvrtc"), "libnvrtc.so"])]
    for name in tried:
        try:
            return _Compiler(ctypes.CDLL(name))
        except OSError:
            continue
    raise BuildError("no libnvrtc found; it comes with jax[cuda12] and jax[cuda13]")


def _packaged() -> list[str]:
    """libnvrtc in NVIDIA's Python packages, newest first."""
    specification = importlib.util.find_spec("nvidia")
    folders = [] if specification is None else specification.submodule_search_locations or []
    found = [path for folder in folders for path in Path(folder).glob("*/lib/libnvrtc.so.*")]
    return [str(path) for path in sorted(found, key=lambda path: path.name, reverse=True)]
