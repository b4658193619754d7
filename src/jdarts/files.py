"""Files that are written whole or not at all."""

import contextlib
from pathlib import Path


def aside(path: Path) -> Path:
    """Where a file is written before it takes its place."""
    return path.with_name(f".{path.name}.incomplete")


def replace_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all, in UTF-8.

    Raises:
      OSError: the file cannot be written, or the disk is full; nothing is left behind then.
    """
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
      OSError: the file cannot be written, or the disk is full; nothing is left behind then.
    """
    part = aside(path)
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
