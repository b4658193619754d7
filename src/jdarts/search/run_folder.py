"""The folder of one run: who owns it, what it was started with, where everything in it lies."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.genotype import Genotype

CONFIG = "config.json"
SUMMARY = "summary.json"


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

    def write_genotype(self, genotype: Genotype, epoch: int | None = None) -> None:
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
        """Writes a text file whole or not at all.

        Raises:
          InputError: the folder cannot be written, or the disk is full.
        """
        path = self.path / name
        aside = path.with_name(f".{path.name}.incomplete")
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                aside.write_text(text, encoding="utf-8")
                aside.replace(path)
            except OSError:
                aside.unlink(missing_ok=True)
                raise


@contextlib.contextmanager
def opened(path: Path, config: Mapping[str, Any]) -> Iterator[RunFolder]:
    """Takes a run's folder for this process, new or begun.

    Args:
      path: the folder.
      config: the settings that decide the result, as JSON data.

    Raises:
      InputError: the folder belongs to a run with other settings, to something else or to another process, or cannot be
        written.
    """
    folder = RunFolder(path)
    with _explained(path):
        existed = path.is_dir()
        if existed and not (path / CONFIG).exists() and any(path.iterdir()):
            raise InputError(f"{path} holds other files and no run; choose another --run-dir")
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path} is in use by another process; wait for it, or choose another --run-dir") from None
        if (path / CONFIG).exists():
            _check_same(path, config)
        else:
            folder.write(CONFIG, json.dumps(config, indent=1) + "\n")
        yield folder
    finally:
        os.close(lock)


def _check_same(path: Path, config: Mapping[str, Any]) -> None:
    try:
        before = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{path / CONFIG} cannot be read; choose another --run-dir") from None
    if not isinstance(before, dict):
        raise InputError(f"{path / CONFIG} is not a run's configuration; choose another --run-dir")
    missing = object()
    different = [name for name in {**before, **config} if before.get(name, missing) != config.get(name, missing)]
    if different:
        told = ", ".join(f"{name}={before.get(name)!r} (now {config.get(name)!r})" for name in different[:4])
        raise InputError(
            f"{path} was begun with other settings: {told}; give the same settings to go on with it, or choose another "
            "--run-dir"
        )


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {error.filename or path}: {error.strerror or error}; choose another --run-dir or mend this one"
        ) from error
