"""Prepares image sets and text corpora, lists them, and shows what is in one: python -m jdarts.data inspect PATH."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TextIO

import tyro
from tyro.extras import SubcommandApp

from jdarts.command import program_name, run_command
from jdarts.data.catalogue import CATALOGUE, DIGITS, NAMES, Entry, check_name
from jdarts.data.loading import load, own_path
from jdarts.data.originals.images import expanded, os_errors_as_input
from jdarts.data.own.assembling import set_name
from jdarts.data.own.contact_sheet import contact_sheet
from jdarts.data.own.inspection import decoded_of, report
from jdarts.data.own.loading import read_path, read_prepared_set
from jdarts.data.own.pictures import TRAIN
from jdarts.data.own.tfds import is_prepared
from jdarts.data.preparation import prepare
from jdarts.data.prepared import Prepared, check_format, data_directory, find_prepared, prepare_command
from jdarts.data.text import SOTU, TEXTS, load_text, prepare_text, sotu
from jdarts.data.text.catalogue import SPLITS, text_entry
from jdarts.data.text.originals import holds_texts
from jdarts.data.text.prepared import find_text, own_texts, text_command
from jdarts.errors import InputError
from jdarts.files.atomic import replace_bytes

app = SubcommandApp()

Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="{" + ",".join((*CATALOGUE, *TEXTS)) + ",NAME}")]
Source = Annotated[Path | None, tyro.conf.arg(name="from", metavar="PATH")]
Images = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH|NAME")]
DataDir = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]


@app.command(name="prepare")
def prepare_set(name: Name, /, source: Source = None, data_dir: DataDir = None, overwrite: bool = False) -> None:
    """Prepares an image set or a text corpus in the form that tensorflow-datasets reads, without TensorFlow.

    Args:
      name: The set. A new name is that of your own corpus: --from then names a folder with train.txt, valid.txt and
        test.txt.
      source: The original files on your disk. For CIFAR: the binary archive (.tar.gz), a folder that holds it, or its
        unpacked folder; for all others: the folder of the files. Without it images are downloaded.
      data_dir: Folder of prepared sets; default: TFDS_DATA_DIR, or else ~/tensorflow_datasets.
      overwrite: Prepare the set again if it is already prepared.
    """
    if _is_text(name, source, data_dir):
        return _prepare_corpus(name, source, data_dir, overwrite)
    if source is not None and name not in NAMES:
        raise InputError(
            f"there is no set {name!r}, and {source} does not hold train.txt, valid.txt and test.txt for a corpus of that "
            f"name; the names are {', '.join((*NAMES, *TEXTS))}"
        )
    check_name(name, NAMES)
    entry = CATALOGUE.get(name)
    if entry and not overwrite and find_prepared(name, entry, data_dir):
        print("already prepared; --overwrite prepares it again")
    prepared = prepare(name, source=source, data_dir=data_dir, overwrite=overwrite, progress=ProgressLine(sys.stderr))
    assert entry is not None
    print(f"{entry.title}: {_describe(prepared, entry)} in {prepared.folder}")
    print(_next_step("jdarts.search", name, data_dir))


@app.command(name="list")
def list_sets(data_dir: DataDir = None) -> None:
    """Lists all image sets and text corpora, and the folders of those that are prepared.

    Args:
      data_dir: Folder of prepared sets; default: TFDS_DATA_DIR, or else ~/tensorflow_datasets.
    """
    print(f"{DIGITS:14} part of scikit-learn, needs no preparation")
    for name, entry in CATALOGUE.items():
        try:
            prepared = find_prepared(name, entry, data_dir)
            if prepared:
                check_format(name, prepared, data_dir)
            state = f"{_describe(prepared, entry)} in {prepared.folder}" if prepared else _absent(name, data_dir)
        except InputError as error:
            state = str(error)
        print(f"{name:14} {state}")
    print(f"{SOTU:14} text, part of the package {sotu.REQUIREMENT}")
    for name in (*TEXTS, *own_texts(data_dir)):
        try:
            prepared = find_text(name, data_dir)
            state = f"{_lines(prepared)} in {prepared.folder}" if prepared else f"not in {data_directory(data_dir)}"
            state += "" if prepared else f"; {text_command(name, data_dir)}"
        except InputError as error:
            state = str(error)
        print(f"{name:14} {state}")


@app.command(name="inspect")
def inspect_set(
    images: Images,
    /,
    image_size: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None,
    sheet: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None,
    data_dir: DataDir = None,
) -> None:
    """Shows what a run would read of an image set: classes, sizes, duplicates, damaged files; and draws a sheet of its images.

    Args:
      images: The path of a folder of images or of arrays, or the name of an image set.
      image_size: Side in pixels to which the images are resized (default: as for a run).
      sheet: The PNG file of the sheet (default: inspect-NAME.png in the present folder).
      data_dir: Folder of prepared sets; default: TFDS_DATA_DIR, or else ~/tensorflow_datasets.
    """
    path = own_path(images, data_dir)
    if path is not None:
        name, decoded = set_name(path), read_path(path, image_size)
    elif images not in NAMES and is_prepared(images, data_dir):
        name, decoded = images, read_prepared_set(images, data_dir, image_size)
    else:
        name, decoded = images, decoded_of(load(images, data_dir, image_size=image_size))
    sheet = sheet or Path(f"inspect-{name.replace('/', '-')}.png")
    with os_errors_as_input(sheet):
        replace_bytes(sheet, contact_sheet(decoded.splits[TRAIN].images, decoded.class_names))
    for line in report(decoded, name):
        print(line)
    print(f"sheet of images: {sheet}")
    print(_next_step("jdarts.search", images, data_dir))


def _next_step(command: str, dataset: str, data_dir: Path | None) -> str:
    """The command of a search on a set."""
    where = ["--data-dir", os.fspath(data_dir)] if data_dir else []
    return f"search on it with: {shlex.join(['python', '-m', command, '--dataset', dataset, *where])}"


def _is_text(name: str, source: Path | None, data_dir: Path | None) -> bool:
    """Whether the name, or else the files in `source`, are those of a corpus."""
    if name in NAMES:
        return False
    known = (SOTU, *TEXTS, *own_texts(data_dir))
    return name in known or (source is not None and holds_texts(expanded(source)))


def _prepare_corpus(name: str, source: Path | None, data_dir: Path | None, overwrite: bool) -> None:
    if name != SOTU and not overwrite and find_text(name, data_dir):
        print("already prepared; --overwrite prepares it again")
    progress = ProgressLine(sys.stderr)
    prepared = prepare_text(name, source=source, data_dir=data_dir, overwrite=overwrite, progress=progress)
    corpus = load_text(name, data_dir)
    entry = text_entry(name)
    sizes = {split: len(getattr(corpus, split)) for split in SPLITS}
    counts = " / ".join(f"{size:,}" for size in sizes.values())
    text = f"{entry.title}: {counts} words in train / valid / test, {len(corpus.vocabulary):,} different ones"
    if entry.tokens and sizes != dict(entry.tokens):
        text += f" (the official set has {' / '.join(f'{size:,}' for size in entry.tokens.values())})"
    print(f"{text}, in {prepared.folder}")
    print(_next_step("jdarts.language.search", name, data_dir))


def _lines(prepared: Prepared) -> str:
    return f"{' / '.join(f'{prepared.counts.get(split, 0):,}' for split in SPLITS)} lines in train / valid / test"


class ProgressLine:
    """Shows progress on one line of a terminal; elsewhere prints a line at every 10 %."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.last: tuple[str, int] | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """Shows the progress of `what`."""
        terminal = self.stream.isatty()
        steps = 100 if terminal else 10
        step = (what, done * steps // max(total, 1))
        if step == self.last:
            return
        self.last = step
        text = f"{what}: {100 * done // max(total, 1)} %"
        end = "" if terminal and done < total else "\n"
        print(f"\r{text}" if terminal else text, end=end, file=self.stream, flush=True)


def _describe(prepared: Prepared, entry: Entry) -> str:
    counts = " and ".join(f"{prepared.counts.get(split, 0):,} {split}" for split in entry.counts)
    text = f"{counts} images"
    if any(prepared.counts.get(split) != count for split, count in entry.counts.items()):
        official = " and ".join(f"{count:,}" for count in entry.counts.values())
        text += f" (the official set has {official})"
    return text


def _absent(name: str, data_dir: Path | None) -> str:
    return f"not in {data_directory(data_dir)}; {prepare_command(name, data_dir)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command with the given arguments, by default those of the process."""
    app.cli(args=arguments, prog=program_name("jdarts.data"), config=(tyro.conf.FlagCreatePairsOff,))


if __name__ == "__main__":
    run_command(main)
