"""The folder of one run: who owns it, what it was started with, where everything in it lies."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.files import aside, replace_text
from jdarts.genotype import AnyGenotype
from jdarts.report.metrics import METRICS_FILE, TENSORBOARD_FOLDER
from jdarts.runs import processes
from jdarts.runs.protocols import Fingerprint
from jdarts.runs.settings import BEFORE, option

CONFIG = "config.json"
LOCK = ".lock"
SUMMARY = "summary.json"
#: The fingerprint of a run's data in its `config.json`.
DATA = "data"
#: Characters of a value in a message.
_LONGEST = 80
#: Runs without a fingerprint took every set in its own order.
_BEFORE_FINGERPRINTS = {"shuffled": True}


class RunFolder(NamedTuple):
    """Paths below a run's folder."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / checkpoint.FOLDER

    @property
    def summary(self) -> Path:
        """What a finished run has found; it is there when the run has ended, and not before."""
        return self.path / SUMMARY

    def check(self, config: Mapping[str, Any], data: Fingerprint | None = None) -> None:
        """Checks that a run with this configuration may live here, and changes nothing.

        Args:
          config: the settings that decide the result, as JSON data.
          data: the fingerprint of its data, where they are read already.

        Raises:
          InputError: the folder belongs to a run with other settings or on other data, or to something else.
        """
        path = self.path
        with _explained("read", path):
            if path.exists() and not path.is_dir():
                raise InputError(f"{path} is a file; choose another --run-dir")
            if (path / CONFIG).exists():
                _check_same(path / CONFIG, config, data)
            elif path.is_dir() and any(entry.name not in (LOCK, aside(path / CONFIG).name) for entry in path.iterdir()):
                raise InputError(f"{path} holds other files and no run; choose another --run-dir")

    @contextlib.contextmanager
    def taken(self, config: Mapping[str, Any], data: Fingerprint) -> Iterator[None]:
        """Takes the folder for this process, and makes it where it is missing; arguments as for `check`.

        Where an error ends a new run before its first step, what was made here is removed.

        Raises:
          InputError: as `check`, or another process uses the folder, or it cannot be written.
        """
        if not processes.leads():
            yield
            return
        made = [each for each in (self.path, *self.path.parents) if not each.exists()]
        with _explained("write", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self.check(config, data)
            begins = not (self.path / CONFIG).exists()
            try:
                if begins:
                    self.write(CONFIG, json.dumps({**config, DATA: data}, indent=1) + "\n")
                yield
            except (InputError, OSError):
                if begins:
                    self._remove_begun(made)
                raise

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with _explained("write", self.path):
            lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            with _explained("lock", self.path / LOCK):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise InputError(
                        f"{self.path} is in use by another process; wait for it, or choose another --run-dir"
                    ) from None
            yield
        finally:
            os.close(lock)

    def _remove_begun(self, made: list[Path]) -> None:
        """Removes what the folder holds, and the folders that were made with it, if there is no step of a run in it."""
        with contextlib.suppress(OSError):
            entries = list(self.path.iterdir())
            if all(map(_is_of_start, entries)):
                for entry in entries:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
                for each in made:
                    each.rmdir()

    def write_genotype(self, genotype: AnyGenotype, epoch: int | None = None) -> None:
        """Writes a genotype: the one after an epoch, or the final one.

        Raises:
          InputError: the folder cannot be written, or the disk is full.
        """
        if epoch is None:
            self.write("genotype.json", genotype.to_json() + "\n")
            self.write("genotype.txt", f"{genotype}\n")
        else:
            self.write(f"genotypes/epoch_{epoch:03d}.json", genotype.to_json() + "\n")

    def write(self, name: str, text: str) -> None:
        """Writes a text file whole or not at all; of several processes, the first one does.

        Raises:
          InputError: the folder cannot be written, or the disk is full.
        """
        if not processes.leads():
            return
        path = self.path / name
        with _explained("write", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, text)


def _is_of_start(entry: Path) -> bool:
    """Whether this is what a run leaves in its folder before its first step."""
    if entry.name == METRICS_FILE:
        return not entry.stat().st_size
    if entry.is_dir() and entry.name != TENSORBOARD_FOLDER:
        return not any(entry.iterdir())
    return entry.name in (CONFIG, LOCK, TENSORBOARD_FOLDER)


def _check_same(path: Path, config: Mapping[str, Any], data: Fingerprint | None) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(f"{path} is damaged; choose another --run-dir") from None
    if not isinstance(before, dict):
        raise InputError(f"{path} is not a run's configuration; choose another --run-dir")
    missing = object()
    of_run = before.pop(DATA, _BEFORE_FINGERPRINTS)
    # Settings that are younger than the run; those of a pipeline's parts have names such as `search.precision`.
    younger = {name: BEFORE[name.rpartition(".")[2]] for name in config if name.rpartition(".")[2] in BEFORE}
    before = {**younger, **before}
    different = [name for name in {**before, **config} if before.get(name, missing) != config.get(name, missing)]
    if different:
        told = ", ".join(
            f"{option(name)} {_shown(before.get(name))} (now {_shown(config.get(name))})" for name in different[:4]
        )
        raise InputError(
            f"{path.parent} was begun with other settings: {told}; give the same settings to go on with it, or choose "
            "another --run-dir"
        )
    if data is not None:
        _check_data(path, of_run, data)


def _check_data(path: Path, before: Any, data: Fingerprint) -> None:
    if not isinstance(before, dict):
        raise InputError(f"{path} is damaged; choose another --run-dir")
    different = [name for name in before if name in data and before[name] != data[name]]
    if different:
        told = ", ".join(f"{name} {_shown(before[name])} (now {_shown(data[name])})" for name in different[:4])
        raise InputError(
            f"{path.parent} was begun with other data: {told}; give the same data to resume it, or choose another --run-dir"
        )


def _shown(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


@contextlib.contextmanager
def _explained(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot {what} {error.filename or path}: {error.strerror or error}; choose another --run-dir or mend this "
            "one"
        ) from error
