"""Where the temporary files of tests lie."""

import os
import shutil
from pathlib import Path

#: A file system in memory, where Linux has one.
_MEMORY = Path("/dev/shm")
#: The space, in bytes, that the files of a run of the tests may take.
_SPACE = 4 * 2**30


def in_memory(folder: Path = _MEMORY, space: int = _SPACE) -> Path | None:
    """The folder, if it has so much space, and files can be made and programs run in it."""
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK) or os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return None
    return folder if shutil.disk_usage(folder).free >= space else None
