"""Finds and reads corpora that are prepared in the format of tensorflow-datasets."""

import os
from collections.abc import Iterator
from typing import Any

from jdarts.data.originals.images import os_errors_as_input
from jdarts.data.prepared import FILE_FORMAT, Prepared, data_directory, find_prepared, prepare_command
from jdarts.data.records import Damage, open_records
from jdarts.data.text.catalogue import MARK, SOTU, SPLITS, TEXTS, VERSION, text_entry
from jdarts.data.text.corpus import TextCorpus, corpus_of_lines
from jdarts.errors import InputError

#: Lines that are read in one call.
_BLOCK = 10_000


def find_text(name: str, data_dir: str | os.PathLike[str] | None = None) -> Prepared | None:
    """Looks for a prepared corpus.

    Raises:
      InputError: the name is not valid, or the folder does not hold a corpus.
    """
    prepared = find_prepared(name, text_entry(name), data_dir)
    if prepared and prepared.file_format != FILE_FORMAT:
        raise InputError(
            f"{prepared.folder} is prepared as {prepared.file_format}, which only TensorFlow reads; replace it with: "
            f"{text_command(name, data_dir, '--overwrite')}"
        )
    return prepared


def own_texts(data_dir: str | os.PathLike[str] | None = None) -> list[str]:
    """Names of the prepared corpora that the catalogue does not know."""
    root = data_directory(data_dir)
    with os_errors_as_input(root):
        names = [path.parts[-3] for path in root.glob(f"*/{VERSION}/{MARK}")]
    return sorted(name for name in names if name not in TEXTS)


def text_command(name: str, data_dir: str | os.PathLike[str] | None, *options: str) -> str:
    """The command that prepares a corpus, for messages."""
    return prepare_command(name, data_dir, "--from", "FOLDER", *options)


def load_prepared_text(name: str, data_dir: str | os.PathLike[str] | None) -> TextCorpus:
    """Reads a prepared corpus into memory.

    Raises:
      InputError: it is not prepared, or its files are damaged.
    """
    prepared = find_text(name, data_dir)
    if prepared is None:
        known = f"the corpora are {', '.join((SOTU, *TEXTS))}, and those that you prepare"
        raise InputError(
            f"there is no corpus {name} in {data_directory(data_dir)}; prepare it with: {text_command(name, data_dir)} "
            f"({known})"
        )
    try:
        builder = open_records(prepared.folder, SPLITS)
        return corpus_of_lines(name, {split: _lines(builder, split) for split in SPLITS})
    except (MemoryError, InputError):
        raise
    except Damage as damage:
        raise _damaged(name, damage, data_dir) from damage
    # TFDS, its parsers and the record reader report damage with errors of many types.
    except Exception as error:
        raise _damaged(name, Damage(prepared.folder), data_dir) from error


def _lines(builder: Any, split: str) -> Iterator[list[str]]:
    source = builder.as_data_source(split)
    for start in range(0, len(source), _BLOCK):
        for record in source.__getitems__(range(start, min(start + _BLOCK, len(source)))):
            yield record["text"].decode("utf-8").split()


def _damaged(name: str, damage: Damage, data_dir: str | os.PathLike[str] | None) -> InputError:
    return InputError(f"{damage}; prepare the corpus again with: {text_command(name, data_dir, '--overwrite')}")
