"""The folder of one run: who owns it, what it was started with, where everything in it lies."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.files.atomic import is_temporary_name, remove_abandoned, replace_text
from jdarts.files.json_data import parse_json
from jdarts.genotype import AnyGenotype
from jdarts.report.metrics import METRICS_FILE, TENSORBOARD_FOLDER
from jdarts.runs import processes
from jdarts.runs.bounds import option
from jdarts.runs.settings import BEFORE

#: What tells the data of a run from others, as JSON data.
Fingerprint = Mapping[str, Any]

CONFIG = "config.json"
LOCK = ".lock"
SUMMARY = "summary.json"
#: The fingerprint of a run's data in its `config.json`.
DATA = "data"
#: Characters of a value in a message.
_LONGEST = 80
#: Runs without a fingerprint took every set in its own order.
_BEFORE_FINGERPRINTS = {"shuffled": True}
GENOTYPES = "genotypes"


class RunFolder:
    """Paths below a run's folder, and the right to write there.

    Args:
      path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
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
        """What a finished run has found; it is there when the run has ended, and not before."""
        return self.path / SUMMARY

    @property
    def has_ended(self) -> bool:
        """Whether the run has finished.

        Raises:
          InputError: the folder cannot be read.
        """
        with _explained("read", self.path):
            return self.summary.exists()

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
            elif path.is_dir() and not all(_precedes_config(entry.name) for entry in path.iterdir()):
                raise InputError(f"{path} holds other files and no run; choose another --run-dir")

    @contextlib.contextmanager
    def taken(self, config: Mapping[str, Any], data: Fingerprint) -> Iterator[None]:
        """Takes the folder for this process, and makes it where it is missing; arguments as for `check`.

        What killed processes have left half-written is removed. Where an error ends a new run before its first step, what was
        made here is removed.

        Raises:
          InputError: as `check`, or another process uses the folder, or it cannot be written.
        """
        if not processes.is_coordinator():
            yield
            return
        made = [each for each in (self.path, *self.path.parents) if not each.exists()]
        with _explained("write", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with self._locked() as lock:
            self.check(config, data)
            for folder in (self.path, self.path / GENOTYPES):
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
                    self._remove_begun(made)
                raise
            finally:
                self._lock = None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        with _explained("write", self.path):
            lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            with _explained("lock", self.path / LOCK):
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
        """Checks, before something is written, that the folder is still the one that this process has taken.

        Raises:
          InputError: it was removed, renamed or replaced, or what marks it as this run's was.
        """
        if self._lock is None:
            return
        mend = "put it back and start the same command again, or choose another --run-dir"
        with _explained("read", self.path):
            if not self.path.is_dir():
                raise InputError(f"{self.path} was removed or renamed while the run used it; {mend}")
            for name in (LOCK, CONFIG):
                if not (self.path / name).exists():
                    raise InputError(f"{self.path / name} was removed while the run used it; {mend}")
            if not self._is_locked_by(self._lock):
                raise InputError(f"{self.path} was replaced by another folder while the run used it; {mend}")
            if _read_config(self.path / CONFIG) != self._written:
                _check_same(self.path / CONFIG, self._settings, self._data)
                raise InputError(f"{self.path / CONFIG} was changed while the run used it; {mend}")

    def _remove_begun(self, made: list[Path]) -> None:
        """Removes what the folder holds, and the folders that were made with it, if there is no step of a run in it."""
        with contextlib.suppress(OSError):
            entries = list(self.path.iterdir())
            if all(map(_is_of_start, entries)):
                for entry in entries:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
                for each in made:
                    each.rmdir()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Surrounds what writes below the folder by itself: `check_unchanged` explains its failure too.

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
        """Writes a genotype: the one after an epoch, or the final one.

        Raises:
          InputError: the folder cannot be written, or the disk is full.
        """
        if epoch is None:
            self.write("genotype.json", genotype.to_json() + "\n")
            self.write("genotype.txt", f"{genotype}\n")
        else:
            self.write(f"{GENOTYPES}/epoch_{epoch:03d}.json", genotype.to_json() + "\n")

    def write(self, name: str, text: str) -> None:
        """Writes a text file whole or not at all; of several processes, the first one does.

        Raises:
          InputError: the folder is no longer there as it was taken, it cannot be written, or the disk is full.
        """
        if not processes.is_coordinator():
            return
        self.check_unchanged()
        path = self.path / name
        with _explained("write", path):
            if path.parent != self.path:
                path.parent.mkdir(exist_ok=True)
            replace_text(path, text)


def _is_of_start(entry: Path) -> bool:
    """Whether this is what a run leaves in its folder before its first step."""
    if entry.name == METRICS_FILE:
        return not entry.stat().st_size
    if entry.is_dir() and entry.name != TENSORBOARD_FOLDER:
        return not any(entry.iterdir())
    return entry.name in (CONFIG, LOCK, TENSORBOARD_FOLDER)


def _precedes_config(name: str) -> bool:
    """Whether a file of this name is in a folder that has no configuration yet."""
    return name == LOCK or is_temporary_name(name, CONFIG)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(path.read_bytes())
    except ValueError:
        raise InputError(f"{path} is damaged; choose another --run-dir") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a run's configuration; choose another --run-dir")
    return content


def _check_same(path: Path, config: Mapping[str, Any], data: Fingerprint | None) -> None:
    before = _read_config(path)
    missing = object()
    of_run = before.pop(DATA, _BEFORE_FINGERPRINTS)
    # Settings that are younger than the run; those of a pipeline's parts have names such as `search.precision`.
    younger = {name: BEFORE[name.rpartition(".")[2]] for name in config if name.rpartition(".")[2] in BEFORE}
    before = {**younger, **before}
    different = [name for name in {**before, **config} if before.get(name, missing) != config.get(name, missing)]
    if different:
        listed = ", ".join(
            f"{option(name)} {_shown(before.get(name))} (now {_shown(config.get(name))})" for name in different[:4]
        )
        raise InputError(
            f"{path.parent} was begun with other settings: {listed}; give the same settings to resume it, or choose "
            "another --run-dir"
        )
    if data is not None:
        _check_data(path, of_run, data)


def _check_data(path: Path, before: Any, data: Fingerprint) -> None:
    if not isinstance(before, dict):
        raise InputError(f"{path} is damaged; choose another --run-dir")
    different = [name for name in before if name in data and before[name] != data[name]]
    if different:
        listed = ", ".join(f"{name} {_shown(before[name])} (now {_shown(data[name])})" for name in different[:4])
        raise InputError(
            f"{path.parent} was begun with other data: {listed}; give the same data to resume it, or choose another --run-dir"
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
