"""Where the reference numbers lie: the small ones beside the tests, the others in the folder named by ``JDARTS_FIXTURES``."""

import os
from pathlib import Path
from typing import Any

import pytest

#: Those that are part of the repository; the README there says what they are.
REFERENCE_NUMBERS = Path(__file__).parent / "reference_numbers"
_BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[2] / "shared" / "fixtures"


def fixtures_folder() -> Path:
    """The folder with the larger reference numbers, by default beside the repository; it need not exist."""
    return Path(os.environ.get("JDARTS_FIXTURES") or _BESIDE_THE_REPOSITORY)


def fixture_files(pattern: str) -> list[Any]:
    """Parameters for ``pytest.mark.parametrize``: the files that fit the pattern, the repository's and any below the folder.

    Args:
        pattern: of the file name, as in ``Path.rglob``, for instance ``search_*.npz``.

    Returns:
        One ``pytest.param`` with the file's path each, in order of the names and named after the file without
        its ending; or a single param, skipped with the reason, where there is no such file. A file that lies in both
        places is taken from the repository.
    """
    folder = fixtures_folder()
    found = {path.name: path for path in folder.rglob(pattern)} if folder.is_dir() else {}
    found |= {path.name: path for path in REFERENCE_NUMBERS.glob(pattern)}
    if found:
        return [pytest.param(path, id=path.stem) for _, path in sorted(found.items())]
    where = "JDARTS_FIXTURES" if os.environ.get("JDARTS_FIXTURES") else "JDARTS_FIXTURES unset"
    reason = f"no file {pattern} below {folder} ({where})"
    return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]
