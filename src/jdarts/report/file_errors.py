"""Failures of the files of metrics, loggers and drawings, as one message."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jdarts.errors import InputError


@contextmanager
def os_errors_as_input(path: Path, what: str = "write") -> Iterator[None]:
    """Turns an `OSError` into an `InputError` that names the path and how to mend it."""
    try:
        yield
    except OSError as error:
        mend = "free some space or mend the folder" if what == "write" else "put it back or make it readable"
        raise InputError(
            f"cannot {what} {path}: {error.strerror or error}; {mend}, and start the same command again"
        ) from None
