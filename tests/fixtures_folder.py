"""Where the reference numbers lie: the folder named by ``JDARTS_FIXTURES``, else beside the repository."""

import os
from pathlib import Path
from typing import Any

import pytest

_BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[2] / "shared" / "fixtures"


def fixtures_folder() -> Path:
    """The folder with the reference numbers; it need not exist."""
    return Path(os.environ.get("JDARTS_FIXTURES") or _BESIDE_THE_REPOSITORY)


def fixture_files(pattern: str) -> list[Any]:
    """Parameters for ``pytest.mark.parametrize``: every file anywhere below the folder that fits the pattern.

    Args:
        pattern: of the file name, as in ``Path.rglob``, for instance ``search_*.npz``.

    Returns:
        One ``pytest.param`` with the file's path each, in order of the paths and named after the file without
        its ending; or a single param, skipped with the reason, where there is no such file.
    """
    folder = fixtures_folder()
    files = sorted(folder.rglob(pattern)) if folder.is_dir() else []
    if files:
        return [pytest.param(path, id=path.stem) for path in files]
    where = "JDARTS_FIXTURES" if os.environ.get("JDARTS_FIXTURES") else "JDARTS_FIXTURES unset"
    reason = f"no file {pattern} below {folder} ({where})"
    return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]
