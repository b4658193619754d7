"""Checks the programs in JAX's compilation cache, and removes damaged ones, so that JAX replaces them.

Without this, JAX keeps a damaged program and compiles it again at each start.
"""

import contextlib
import hashlib
import logging
from pathlib import Path

from jdarts.files.user_cache import remove
from jdarts.xla.jax_compat import (
    UNREADABLE_PROGRAM,
    CacheInterface,
    folder_of_programs,
    program_size,
    wrap_compilation_cache,
)

_log = logging.getLogger(__name__)


class CheckedPrograms(CacheInterface):
    """JAX's store of compiled programs, with the checksum of each program in a file beside it."""

    def __init__(self, store: CacheInterface) -> None:
        self._store = store
        self._path = folder_of_programs(store)

    def get(self, key: str) -> bytes | None:
        """The program of a key; None if there is none, or if it is damaged, in which case it is removed."""
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
            remove(self._program(key))
        return None

    def put(self, key: str, value: bytes) -> None:
        """Stores a program, unless another process has stored it meanwhile."""
        if self._program(key).exists():
            return
        self._store.put(key, value)
        # Not written atomically, since there are thousands: a truncated one costs one compilation.
        with contextlib.suppress(OSError):
            self._checksum(key).write_text(_sha256(value))

    def _damage(self, key: str, content: bytes) -> str | None:
        try:
            expected = self._checksum(key).read_text()
        except (OSError, UnicodeDecodeError):
            return _unreadable(content)
        return None if expected == _sha256(content) else "its checksum differs"

    def _program(self, key: str) -> Path:
        return self._path / f"{key}-cache"

    def _checksum(self, key: str) -> Path:
        return self._path / f"{key}-sha256"


def check_kept_programs() -> None:
    """Makes JAX check every program that it reads from its compilation cache, now and later."""
    wrap_compilation_cache(_checked)


def _checked(store: CacheInterface) -> CacheInterface:
    return store if isinstance(store, CheckedPrograms) else CheckedPrograms(store)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _unreadable(content: bytes) -> str | None:
    """Why a program without a checksum, as other programs or a killed process leave it, cannot be read; None if it can."""
    try:
        size = program_size(content)
    except UNREADABLE_PROGRAM as error:
        return str(error)
    return None if size else "it is empty"
