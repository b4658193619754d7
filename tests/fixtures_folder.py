"""Where the reference numbers lie: the small ones beside the tests, the others in the folder named by ``JDARTS_FIXTURES``."""

import filecmp
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
        One ``pytest.param`` with the file's path each, in order of the names and named after the file without its ending, with
        its folder where several files have that name; or a single param, skipped with the reason, where there is no such file.
        Files with the same name and the same content are one, which is that of the repository if it is there.
    """
    folder = fixtures_folder()
    below = sorted(folder.rglob(pattern)) if folder.is_dir() else []
    by_name: dict[str, list[Path]] = {}
    for path in [*sorted(REFERENCE_NUMBERS.glob(pattern)), *below]:
        alike = by_name.setdefault(path.name, [])
        if not any(filecmp.cmp(path, other, shallow=False) for other in alike):
            alike.append(path)
    if by_name:
        return [
            pytest.param(path, id=path.stem if len(alike) == 1 else f"{path.parent.name}-{path.stem}")
            for _, alike in sorted(by_name.items())
            for path in alike
        ]
    where = "JDARTS_FIXTURES" if os.environ.get("JDARTS_FIXTURES") else "JDARTS_FIXTURES unset"
    reason = f"no file {pattern} below {folder} ({where})"
    return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]
