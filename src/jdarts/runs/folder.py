"""The folder of one run: its lock, its configuration and its files."""

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.files.atomic import is_temporary_name, remove_abandoned, replace_text
from jdarts.files.json_data import parse_json
from jdarts.genotype import AnyGenotype, parse_genotype
from jdarts.report.loggers import FOLDERS
from jdarts.report.metrics import METRICS_FILE
from jdarts.runs import processes
from jdarts.runs.same_run import BATCH_SIZE, CHANGEABLE, DATA, EPOCHS, NOTHING, Fingerprint, check_same

CONFIG = "config.json"
LOCK = ".lock"
SUMMARY = "summary.json"
#: The result of a pipeline as a table.
TABLE = "table.txt"
#: The memory of a run, for its page.
MEMORY = "memory.json"
#: What a trained network gets wrong.
MISTAKES = "mistakes.json"
#: The words that surprised a trained language model.
SURPRISES = "surprises.json"
#: The page of a run.
PAGE = "report.html"
GENOTYPES = "genotypes"
#: Folder of the mixture of each epoch.
ALPHAS = "alphas"


class RunFolder:
    """The folder of a run: its paths, its lock, and writing below it.

    Args:
      path: the folder.
      allowed: settings that this kind of run can change on its way, and whether this process may; as for `check_same`.
    """

    def __init__(self, path: Path, *, allowed: Mapping[str, bool] = NOTHING) -> None:
        self.path = path
        self._allowed = allowed
        self._lock: int | None = None
        self._settings: Mapping[str, Any] = {}
        self._data: Fingerprint | None = None
        self._written: Any = None

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / checkpoint.FOLDER

    @property
    def summary(self) -> Path:
        """The summary file, which exists only after the run has finished."""
        return self.path / SUMMARY

    @property
    def has_ended(self) -> bool:
        """Whether the run has finished.

        Raises:
          InputError: the folder cannot be read.
        """
        with _os_errors_as_input("read", self.path):
            return self.summary.exists()

    def is_finished(self, config: Mapping[str, Any]) -> bool:
        """Whether the run has finished, and these settings, which have passed `check`, give it no more epochs."""
        return self.has_ended and not (self._allowed.get(EPOCHS) and self.settings().get(EPOCHS) != config[EPOCHS])

    def settings(self) -> dict[str, Any]:
        """The content of `config.json`.

        Raises:
          InputError: it cannot be read, or is damaged.
        """
        with _os_errors_as_input("read", self.path):
            return _read_config(self.path / CONFIG)

    def check(self, config: Mapping[str, Any], data: Fingerprint | None = None) -> None:
        """Checks that the folder is free for a run with this configuration, or belongs to it. Changes nothing.

        Args:
          config: the settings that decide the result, as JSON data.
          data: the fingerprint of its data, if they have been read.

        Raises:
          InputError: the folder belongs to a run with other settings or on other data, or to something else.
        """
        path = self.path
        with _os_errors_as_input("read", path):
            if path.exists() and not path.is_dir():
                raise InputError(f"{path} is a file; choose another --run-dir")
            if (path / CONFIG).exists():
                before = _read_config(path / CONFIG)
                check_same(path, before, config, data, allowed=self._allowed)
                if self.is_finished(config) and before.get(BATCH_SIZE) != config.get(BATCH_SIZE):
                    raise InputError(
                        f"{path} has finished, and another --batch-size changes nothing; give --batch-size "
                        f"{before.get(BATCH_SIZE)}, or more --epochs with --extend"
                    )
            elif self._allowed.get(EPOCHS):
                raise InputError(f"{path} holds no run that --extend could give more epochs; leave it out to start one")
            elif path.is_dir() and not all(_precedes_config(entry.name) for entry in path.iterdir()):
                raise InputError(f"{path} holds other files and no run; choose another --run-dir")

    @contextlib.contextmanager
    def lock(self, config: Mapping[str, Any], data: Fingerprint) -> Iterator[None]:
        """Locks the folder for this process, and creates it if needed; arguments as for `check`.

        Removes files that killed processes left half-written. If an error ends a new run before its first step, removes
        everything that was created here.

        Raises:
          InputError: as `check`, or another process uses the folder, or it cannot be written.
        """
        if not processes.is_coordinator():
            yield
            return
        made = [each for each in (self.path, *self.path.parents) if not each.exists()]
        with _os_errors_as_input("write", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with self._locked() as lock:
            self.check(config, data)
            for folder in (self.path, self.path / GENOTYPES, self.path / ALPHAS):
                remove_abandoned(folder)
            begins = not (self.path / CONFIG).exists()
            try:
                if begins:
                    self.write(CONFIG, json.dumps({**config, DATA: data}, indent=1) + "\n")
                self._lock, self._settings, self._data = lock, config, data
                self._written = _read_config(self.path / CONFIG)
                yield
            except (InputError, OSError):
                if begins and self._is_locked_by(lock):
                    self._remove_unstarted(made)
                raise
            finally:
                self._lock = None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        with _os_errors_as_input("write", self.path):
            lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            with _os_errors_as_input("lock", self.path / LOCK):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise InputError(
                        f"{self.path} is in use by another process; wait for it, or choose another --run-dir"
                    ) from None
            yield lock
        finally:
            os.close(lock)

    def _is_locked_by(self, lock: int) -> bool:
        try:
            return os.path.samestat(os.stat(self.path / LOCK), os.fstat(lock))
        except FileNotFoundError:
            return False

    def check_unchanged(self) -> None:
        """Checks, before a write, that the folder is still the one that this process has locked.

        Raises:
          InputError: the folder, its lock or its configuration was removed, renamed or replaced.
        """
        if self._lock is None:
            return
        mend = "put it back and start the same command again, or choose another --run-dir"
        with _os_errors_as_input("read", self.path):
            if not self.path.is_dir():
                raise InputError(f"{self.path} was removed or renamed while the run used it; {mend}")
            for name in (LOCK, CONFIG):
                if not (self.path / name).exists():
                    raise InputError(f"{self.path / name} was removed while the run used it; {mend}")
            if not self._is_locked_by(self._lock):
                raise InputError(f"{self.path} was replaced by another folder while the run used it; {mend}")
            if _read_config(self.path / CONFIG) != self._written:
                check_same(self.path, _read_config(self.path / CONFIG), self._settings, self._data)
                raise InputError(f"{self.path / CONFIG} was changed while the run used it; {mend}")

    def change(self) -> None:
        """Gives the run of the locked folder the epochs and the size of a batch of this process's settings.

        A process that dies on the way leaves a finished run without its summary, which resumes with either number.

        Raises:
          InputError: as `write`.
        """
        if self._lock is None:
            return
        new = {name: self._settings[name] for name in CHANGEABLE if name in self._settings}
        if all(self._written.get(name) == value for name, value in new.items()):
            return
        self.check_unchanged()
        with _os_errors_as_input("write", self.path):
            self.summary.unlink(missing_ok=True)
        changed = {**self._written, **new}
        self.write(CONFIG, json.dumps(changed, indent=1) + "\n")
        self._written = changed

    def _remove_unstarted(self, made: list[Path]) -> None:
        """Removes the files of a run without a step, and the folders that were created for it."""
        with contextlib.suppress(OSError):
            entries = list(self.path.iterdir())
            if all(map(_precedes_first_step, entries)):
                for entry in entries:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
                for each in made:
                    each.rmdir()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Surrounds other code that writes below the folder: `check_unchanged` also explains its failures.

        Raises:
          InputError: as for `check_unchanged`.
        """
        self.check_unchanged()
        try:
            yield
        except InputError:
            self.check_unchanged()
            raise

    def write_genotype(self, genotype: AnyGenotype, epoch: int | None = None) -> None:
        """Writes the genotype of an epoch, or the final one.

        Raises:
          InputError: the folder cannot be written, or the disk is full.
        """
        if epoch is None:
            self.write("genotype.json", genotype.to_json() + "\n")
            self.write("genotype.txt", f"{genotype}\n")
        else:
            self.write(genotype_file(epoch), genotype.to_json() + "\n")

    def genotype_of(self, epoch: int, kind: type[AnyGenotype]) -> AnyGenotype | None:
        """The genotype that `write_genotype` wrote after an epoch; None if there is none that can be read.

        Args:
          epoch: counted from 1.
          kind: type of the run's genotypes.
        """
        try:
            return parse_genotype((self.path / genotype_file(epoch)).read_text(), kind)
        except (OSError, ValueError, InputError):
            return None

    def write(self, name: str, text: str) -> None:
        """Writes a text file atomically; only the coordinator does.

        Raises:
          InputError: the folder is no longer the one that was locked, it cannot be written, or the disk is full.
        """
        if not processes.is_coordinator():
            return
        self.check_unchanged()
        path = self.path / name
        with _os_errors_as_input("write", path):
            if path.parent != self.path:
                path.parent.mkdir(exist_ok=True)
            replace_text(path, text)


def recorded_data(path: Path) -> Fingerprint | None:
    """The fingerprint of the data of the run in a folder, or of the first of its stages; None if there is none.

    Raises:
      InputError: it cannot be read, or is damaged.
    """
    with _os_errors_as_input("read", path):
        for place in (path / CONFIG, *sorted(path.glob(f"stage*/{CONFIG}"))):
            if place.is_file():
                found = _read_config(place).get(DATA)
                return found if isinstance(found, dict) else {}
    return None


def genotype_file(epoch: int) -> str:
    """Where a run's folder has the genotype of an epoch, counted from 1."""
    return f"{GENOTYPES}/epoch_{epoch:03d}.json"


def stage_folder(number: int) -> str:
    """Where the folder of a search in stages has a stage before the last, counted from 1."""
    return f"stage{number}"


def mixture_file(epoch: int) -> str:
    """Where a run's folder has the mixture of an epoch, counted from 1."""
    return f"{ALPHAS}/epoch_{epoch:03d}.json"


def _precedes_first_step(entry: Path) -> bool:
    """Whether a run writes this entry of its folder before its first step."""
    if entry.name == METRICS_FILE:
        return not entry.stat().st_size
    if entry.is_dir() and entry.name not in FOLDERS:
        return not any(entry.iterdir())
    return entry.name in (CONFIG, LOCK, *FOLDERS)


def _precedes_config(name: str) -> bool:
    """Whether a file of this name may exist before the configuration does."""
    return name == LOCK or is_temporary_name(name, CONFIG) or re.fullmatch(r"stage\d+", name) is not None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(path.read_bytes())
    except ValueError:
        raise InputError(f"{path} is damaged; choose another --run-dir") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a run's configuration; choose another --run-dir")
    return content


@contextlib.contextmanager
def _os_errors_as_input(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot {what} {error.filename or path}: {error.strerror or error}; choose another --run-dir or mend this "
            "one"
        ) from error
