"""Prepares image sets and lists them: python -m jdarts.data prepare cifar10."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TextIO

import tyro
from tyro.extras import SubcommandApp

from jdarts.command import run_command
from jdarts.data.catalogue import CATALOGUE, DIGITS, NAMES, Entry, check_name
from jdarts.data.preparation import prepare
from jdarts.data.prepared import Prepared, check_format, data_directory, find_prepared, prepare_command
from jdarts.errors import InputError

app = SubcommandApp()

Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="{" + ",".join(CATALOGUE) + "}")]
Source = Annotated[Path | None, tyro.conf.arg(name="from", metavar="PATH")]
DataDir = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]


@app.command(name="prepare")
def prepare_set(name: Name, /, source: Source = None, data_dir: DataDir = None, overwrite: bool = False) -> None:
    """Prepares an image set in the form that tensorflow-datasets reads, without TensorFlow.

    Args:
      name: The image set.
      source: The original files, when they are on disk: for CIFAR the binary archive (.tar.gz), a folder that
        holds it, or its unpacked folder; for Fashion-MNIST and SVHN the folder of the files. Without it they
        are downloaded.
      data_dir: Where prepared sets lie; default: TFDS_DATA_DIR, or else ~/tensorflow_datasets.
      overwrite: Prepare again what is already prepared.
    """
    check_name(name, NAMES)
    entry = CATALOGUE.get(name)
    if entry and not overwrite and find_prepared(name, entry, data_dir):
        print("already prepared; --overwrite prepares it again")
    found = prepare(name, source=source, data_dir=data_dir, overwrite=overwrite, progress=ProgressLine(sys.stderr))
    assert entry is not None
    print(f"{entry.title}: {_describe(found, entry)} in {found.folder}")
    where = f" --data-dir {shlex.quote(os.fspath(data_dir))}" if data_dir else ""
    print(f"search on it with: python -m jdarts.search --dataset {name}{where}")


@app.command(name="list")
def list_sets(data_dir: DataDir = None) -> None:
    """Shows every image set, whether it is prepared, and where.

    Args:
      data_dir: Where prepared sets lie; default: TFDS_DATA_DIR, or else ~/tensorflow_datasets.
    """
    print(f"{DIGITS:14} always there, inside scikit-learn")
    for name, entry in CATALOGUE.items():
        try:
            found = find_prepared(name, entry, data_dir)
            if found:
                check_format(name, found, data_dir)
            state = f"{_describe(found, entry)} in {found.folder}" if found else _absent(name, data_dir)
        except InputError as error:
            state = str(error)
        print(f"{name:14} {state}")


class ProgressLine:
    """Shows progress on one line of a terminal; elsewhere prints a line at every tenth of the way."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.shown: tuple[str, int] | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """Shows how far `what` has come."""
        terminal = self.stream.isatty()
        steps = 100 if terminal else 10
        step = (what, done * steps // max(total, 1))
        if step == self.shown:
            return
        self.shown = step
        text = f"{what}: {100 * done // max(total, 1)} %"
        end = "" if terminal and done < total else "\n"
        print(f"\r{text}" if terminal else text, end=end, file=self.stream, flush=True)


def _describe(found: Prepared, entry: Entry) -> str:
    counts = " and ".join(f"{found.counts.get(split, 0):,} {split}" for split in entry.counts)
    text = f"{counts} images"
    if any(found.counts.get(split) != count for split, count in entry.counts.items()):
        official = " and ".join(f"{count:,}" for count in entry.counts.values())
        text += f" (the official set has {official})"
    return text


def _absent(name: str, data_dir: Path | None) -> str:
    return f"not in {data_directory(data_dir)}; {prepare_command(name, data_dir)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command with the given arguments, by default those of the process."""
    app.cli(args=arguments, prog="python -m jdarts.data", config=(tyro.conf.FlagCreatePairsOff,))


if __name__ == "__main__":
    run_command(main)
