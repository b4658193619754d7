"""A logger that keeps in the run's folder what it has logged, so that a resumed run logs nothing twice."""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jdarts.errors import InputError
from jdarts.files.atomic import replace_text
from jdarts.files.json_data import Fields, parse_json
from jdarts.report.file_errors import os_errors_as_input
from jdarts.report.loggers.interface import EpochCells, Logger

#: The file of a logger's progress, in the logger's folder.
PROGRESS = "jdarts.json"


class Progress(NamedTuple):
    """What a run has logged.

    Attributes:
      id: of the run in the program that shows it; empty before there is one.
      step: the last step with a record.
      epoch: the last epoch with a record.
      cells: the last epoch whose cells are logged.
    """

    id: str = ""
    step: int = 0
    epoch: int = 0
    cells: int = 0


class OnceLogger:
    """Passes each record on to another logger once, over all processes of a run.

    A run that resumes from a checkpoint computes the same numbers again for the steps after it. Programs such as W&B have
    them already and forget nothing.

    Args:
      logger: the other one.
      folder: its folder in the run's folder.
      progress: what earlier processes have logged, with the run's id.
    """

    def __init__(self, logger: Logger, folder: Path, progress: Progress) -> None:
        self._logger = logger
        self._folder = folder
        self._progress = progress
        self._save(progress)

    def write(self, step: int, now: float, numbers: Mapping[str, float], epoch: int | None) -> None:
        """As `Logger.write`."""
        done = self._progress.step if epoch is None else self._progress.epoch
        if (step if epoch is None else epoch) > done:
            self._logger.write(step, now, numbers, epoch)
            self._save(self._progress._replace(step=step) if epoch is None else self._progress._replace(epoch=epoch))

    def write_cells(self, step: int, now: float, cells: EpochCells) -> None:
        """As `Logger.write_cells`."""
        if cells.epoch > self._progress.cells:
            self._logger.write_cells(step, now, cells)
            self._save(self._progress._replace(cells=cells.epoch))

    def close(self, *, failed: bool) -> None:
        """As `Logger.close`."""
        self._logger.close(failed=failed)

    def _save(self, progress: Progress) -> None:
        path = self._folder / PROGRESS
        with os_errors_as_input(path):
            replace_text(path, json.dumps(progress._asdict()) + "\n")
        self._progress = progress


def read_progress(folder: Path) -> Progress:
    """What the processes of a run have logged, from the logger's folder, which is created if it is missing.

    Raises:
      InputError: the file cannot be read, or is damaged.
    """
    path = folder / PROGRESS
    with os_errors_as_input(folder):
        folder.mkdir(exist_ok=True)
    if not path.exists():
        return Progress()
    with os_errors_as_input(path, "read"):
        text = path.read_bytes()
    try:
        fields = Fields(parse_json(text))
        return Progress(fields.text("id"), *(fields.count(name) for name in Progress._fields[1:]))
    except ValueError:
        raise InputError(
            f"{path} is damaged, and the run cannot find what it has logged; remove {folder} to log it as a new run"
        ) from None


def new_id() -> str:
    """An id for a run."""
    return secrets.token_hex(8)


def run_name(folder: Path) -> str:
    """The name of a run in lists of runs: its folder with the one above it."""
    return os.sep.join(folder.resolve().parts[-2:])
