"""A logger that keeps what runs log, in the place of those that need packages."""

import pytest

from jdarts.report.loggers import choice
from jdarts.report.loggers.progress import OnceLogger, read_progress


class Recorder:
    """A logger that keeps what it is given, for all processes of a run."""

    def __init__(self):
        self.numbers, self.cells, self.closed = [], [], []

    def write(self, step, now, numbers, epoch):
        self.numbers.append((step, epoch, dict(numbers)))

    def write_cells(self, step, now, cells):
        self.cells.append((step, cells.epoch, cells.picture is not None, sorted(cells.alphas)))

    def close(self, *, failed):
        self.closed.append(failed)


@pytest.fixture
def recorded(monkeypatch):
    """Puts a recorder in the place of W&B; it gives the recorder of each run's folder."""
    found = {}

    def opened(name, folder, after_step, settings):
        recorder = found.setdefault(folder.name, Recorder())
        return OnceLogger(recorder, folder / "wandb", read_progress(folder / "wandb"))

    monkeypatch.setattr(choice, "_open", opened)
    monkeypatch.setattr("jdarts.runs.options.check_loggers", lambda names: None)
    return found
