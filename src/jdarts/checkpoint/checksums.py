"""The checksums that seal a checkpoint."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from jdarts.checkpoint.folders import CHECKSUMS


class OtherChecksums(ValueError):
    """`SHA256SUMS` does not have the form in which checkpoints are written."""


def checksums_of(folder: Path) -> str:
    """The text of `SHA256SUMS`, as `sha256sum` writes it, for the files of a folder."""
    lines = []
    for path in sorted(_files(folder)):
        if path != folder / CHECKSUMS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    return "".join(lines)


def by_name(text: str) -> dict[str, str]:
    """The checksum of each file, by its name, from the text of `SHA256SUMS`.

    Raises:
      OtherChecksums: the text is something else.
    """
    pairs = [line.split("  ", 1) for line in text.splitlines()]
    if not text.endswith("\n") or any(len(pair) != 2 for pair in pairs):
        raise OtherChecksums(f"{CHECKSUMS} has changed since it was written")
    return {name: digest for digest, name in pairs}


def _files(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for parent, _, names in os.walk(folder, onerror=fail):
        paths = [Path(parent, name) for name in names]
        yield from (path for path in paths if stat.S_ISREG(path.stat().st_mode))
