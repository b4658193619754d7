"""Checks the programs that JAX keeps in a folder: one that is damaged is removed, so that JAX puts a new one in its place.

JAX itself keeps what it cannot read, and compiles again at each start. It has no public way to change that, so this file, and no
other, uses its inner modules.
"""

import contextlib
import hashlib
import logging
import zlib
from pathlib import Path

from jax._src import compilation_cache
from jax._src.compilation_cache_interface import CacheInterface

from jdarts.files.atomic import replace_text
from jdarts.files.user_cache import remove

_log = logging.getLogger(__name__)

#: Of the package that JAX compresses with, where there is one; of zlib otherwise.
_ZSTANDARD = (getattr(compilation_cache, name, None) for name in ("zstd", "zstandard"))
_UNREADABLE = (zlib.error, EOFError, ValueError, *(package.ZstdError for package in _ZSTANDARD if package))


class CheckedPrograms(CacheInterface):
    """JAX's store of compiled programs, with the checksum of each program in a file beside it."""

    def __init__(self, store: CacheInterface) -> None:
        self._store = store
        self._path = store._path

    def get(self, key: str) -> bytes | None:
        """The program of a key; None where there is none, and where it is damaged, which removes it."""
        try:
            content = self._store.get(key)
        except OSError as error:
            content, damage = None, str(error)
        else:
            damage = None if content is None else self._damage(key, content)
        if damage is None:
            return content
        _log.info("the compiled program %s is damaged (%s) and is compiled again", key, damage)
        with contextlib.suppress(OSError):
            remove(Path(self._path) / f"{key}-cache")
        return None

    def put(self, key: str, value: bytes) -> None:
        """Keeps a program."""
        self._store.put(key, value)
        with contextlib.suppress(OSError):
            replace_text(self._checksum(key), _sha256(value))

    def _damage(self, key: str, content: bytes) -> str | None:
        try:
            expected = self._checksum(key).read_text()
        except (OSError, UnicodeDecodeError):
            return _unreadable(content)
        return None if expected == _sha256(content) else "its checksum is another"

    def _checksum(self, key: str) -> Path:
        return Path(self._path) / f"{key}-sha256"


def check_kept_programs() -> None:
    """Lets JAX check every program that it takes from the folder of compiled programs, now and later."""
    make = compilation_cache.get_file_cache

    def make_checked(path: str) -> tuple[CacheInterface, str] | None:
        made = make(path)
        return made if made is None else (_checked(made[0]), made[1])

    compilation_cache.get_file_cache = make_checked
    if compilation_cache._cache is not None:
        compilation_cache._cache = _checked(compilation_cache._cache)


def _checked(store: CacheInterface) -> CacheInterface:
    return store if isinstance(store, CheckedPrograms) else CheckedPrograms(store)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _unreadable(content: bytes) -> str | None:
    """Why a program without a checksum cannot be read: one of other programs, or of a process that was killed."""
    try:
        program, _ = compilation_cache.extract_executable_and_time(compilation_cache.decompress_executable(content))
    except _UNREADABLE as error:
        return str(error)
    return None if program else "it is empty"
