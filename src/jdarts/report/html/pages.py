"""Writes the page of a run, or of several runs side by side."""

from collections.abc import Sequence
from pathlib import Path

from jdarts.errors import InputError
from jdarts.files.atomic import replace_text
from jdarts.report.html.comparison_page import comparison_page
from jdarts.report.html.pipeline import PARTS
from jdarts.report.html.pipeline_page import pipeline_page
from jdarts.report.html.run_data import read_run
from jdarts.report.html.run_page import run_page
from jdarts.runs.folder import CONFIG, PAGE, TABLE

#: Where the page of several runs is written.
COMPARISON = "comparison.html"


def page_of(folder: Path, *, place: Path | None = None, live: bool = False) -> str:
    """The page of a run, of a pipeline, or of the runs that a folder holds.

    Args:
      folder: the folder.
      place: the folder of the page, to which links are relative; None for the given folder.
      live: whether the page of a run reloads itself.

    Raises:
      InputError: as for `runs_in`, or a run's settings cannot be read.
    """
    folders, place = runs_in(folder), place or folder
    if (folder / CONFIG).exists():
        run = read_run(folder)
        if run.kind != "pipeline":
            return run_page(run, place, live=live)
        own = [read_run(each, every_cell=False) for each in folders if each != folder]
        return pipeline_page(run, own, place, _table(folder))
    if len(folders) == 1:
        return run_page(read_run(folders[0]), place, live=live)
    return _comparison(folders, place)


def report(given: Sequence[Path], output: Path | None = None) -> Path:
    """Writes the page of one run or of several.

    Args:
      given: folders of runs, or folders that hold runs.
      output: the file; None for the usual one.

    Returns:
      The file.

    Raises:
      InputError: a folder is not that of a run, or the page cannot be written.
    """
    if output is not None and output.is_dir():
        raise InputError(f"--output {output} is a folder; give a file such as {output / PAGE}")
    folders = [folder for each in given for folder in runs_in(each)]
    if len(given) == 1:
        # A folder that holds a single run, and is no pipeline, stands for it.
        stands_for_run = len(folders) == 1 and not (given[0] / CONFIG).exists()
        path = output or (folders[0] if stands_for_run else given[0]) / PAGE
        text = page_of(given[0], place=path.parent)
    else:
        path = output or Path(COMPARISON)
        text = _comparison(folders, path.parent)
    try:
        replace_text(path, text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; give another file with --output") from None
    return path


def runs_in(folder: Path) -> list[Path]:
    """The run of a folder, or those of a pipeline, or those below a folder that is no run itself.

    Raises:
      InputError: there is no such folder, or no run in it.
    """
    if not folder.is_dir():
        why = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {why}; give the folder of a run")
    parts = [path for part in PARTS for path in _below(folder / part)]
    if parts:
        return parts
    if (folder / CONFIG).exists():
        return [folder]
    found = _below(folder)
    if not found:
        raise InputError(
            f"{folder} is no run's folder, and holds none: there is no {CONFIG}; give the --run-dir of a run"
        )
    return found


def _comparison(folders: Sequence[Path], place: Path) -> str:
    return comparison_page([read_run(folder, every_cell=False) for folder in folders], place)


def _table(folder: Path) -> str:
    """The table of a pipeline that has ended."""
    try:
        return (folder / TABLE).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _below(folder: Path) -> list[Path]:
    """The runs that a folder holds."""
    return sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
