"""Prepares a corpus in the format of tensorflow-datasets without TensorFlow, whole or not at all."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jdarts.data.originals.download import Progress
from jdarts.data.originals.images import expanded, os_errors_as_input
from jdarts.data.prepared import Prepared, data_directory
from jdarts.data.staging import SilentBuilder, move_into_place, staging_folder, write_records
from jdarts.data.text.catalogue import MARK, SOTU, VERSION, TextEntry, text_entry
from jdarts.data.text.originals import read_texts
from jdarts.data.text.prepared import find_text, text_command
from jdarts.errors import InputError


def prepare_text(
    name: str,
    *,
    source: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> Prepared:
    """Prepares a corpus so that `jdarts.data.load_text` and plain `tfds.data_source` read it, with a record per line.

    It is built in a temporary folder and moved into place at the end, so an interruption or an error leaves no files
    behind.

    Args:
      name: `ptb`, `wikitext2`, or a new name for a user's own corpus.
      source: the folder of the original files: `train.txt`, `valid.txt` and `test.txt`, or the usual names of the two.
      data_dir: folder of prepared sets; by default TFDS_DATA_DIR, or else ~/tensorflow_datasets.
      overwrite: prepare the corpus again if it is already prepared.
      progress: called with the name of the present work, the amount done and the total amount.

    Returns:
      The prepared corpus.

    Raises:
      InputError: a file is missing, empty, not UTF-8 or fails its checksum, or the disk cannot be written.
    """
    if name == SOTU:
        raise InputError(
            f"{SOTU} is part of its package and needs no preparation; load it with: jdarts.data.load_text('{SOTU}')"
        )
    entry = text_entry(name)
    if not overwrite and (prepared := find_text(name, data_dir)):
        return prepared
    if source is None:
        raise InputError(
            f"{entry.title} cannot be downloaded; name the folder of your files: {text_command(name, data_dir)}"
        )
    texts = read_texts(expanded(source), entry)
    root = data_directory(data_dir)
    with staging_folder(root, entry.tfds_name) as staging:
        built = _build(entry, texts, staging, progress)
        with os_errors_as_input(root):
            move_into_place(built, root / entry.tfds_name / built.name, staging)
    prepared = find_text(name, data_dir)
    assert prepared is not None
    return prepared


def _build(entry: TextEntry, texts: dict[str, list[str]], staging: Path, progress: Progress) -> Path:
    """Writes the records below `staging` and returns their folder."""
    import tensorflow_datasets as tfds

    total = sum(map(len, texts.values()))
    done = 0

    class Builder(SilentBuilder, tfds.core.GeneratorBasedBuilder, skip_registration=True):  # pyright: ignore
        """A corpus with a record per line, in the order of the files."""

        name = entry.tfds_name
        VERSION = tfds.core.Version(VERSION)

        def _info(self) -> Any:
            features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
            description = f"{entry.title}, prepared by jdarts from the user's own files."
            return self.dataset_info_from_configs(features=features, description=description, disable_shuffling=True)

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {split: self._generate_examples(lines) for split, lines in texts.items()}

        def _generate_examples(self, lines: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
            nonlocal done
            for number, line in enumerate(lines):
                yield number, {"text": line}
                done += 1
                if done % 10_000 == 0 or done == total:
                    progress("writing lines", done, total)

    folder = write_records(Builder, staging)
    with os_errors_as_input(staging):
        (folder / MARK).touch()
    return folder
