"""Prepares a corpus in the form of tensorflow-datasets without TensorFlow: whole or not at all."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jdarts.data.originals.download import Progress
from jdarts.data.originals.images import expanded, os_errors_as_input
from jdarts.data.prepared import Prepared, data_directory
from jdarts.data.staging import SilentBuilder, move_into_place, staging_folder, written
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
    """Prepares a corpus so that `jdarts.data.load_text` and plain `tfds.data_source` read it, a line a record.

    It is built in a temporary folder beside its place and moved there when it is whole, so an interruption or an error
    leaves nothing behind.

    Args:
      name: `ptb`, `wikitext2`, or a new name for a corpus of the user's own.
      source: the folder of the original files: `train.txt`, `valid.txt` and `test.txt`, or the usual names of the two.
      data_dir: where prepared sets lie; by default TFDS_DATA_DIR, or else ~/tensorflow_datasets.
      overwrite: prepare again what is already prepared.
      progress: called with what is being done, the amount done and the amount in total.

    Returns:
      What lies there now.

    Raises:
      InputError: a file is missing, empty, not UTF-8 or not the one that is meant, or the disk refuses.
    """
    if name == SOTU:
        raise InputError(
            f"{SOTU} lies inside its package and needs no preparation; load it with: jdarts.data.load_text('{SOTU}')"
        )
    entry = text_entry(name)
    if not overwrite and (found := find_text(name, data_dir)):
        return found
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
    found = find_text(name, data_dir)
    assert found is not None
    return found


def _build(entry: TextEntry, texts: dict[str, list[str]], staging: Path, progress: Progress) -> Path:
    """Writes the records below `staging` and returns their folder."""
    import tensorflow_datasets as tfds

    total = sum(map(len, texts.values()))
    done = 0

    class Builder(SilentBuilder, tfds.core.GeneratorBasedBuilder, skip_registration=True):  # pyright: ignore
        """A corpus, a line a record, in the order of the files."""

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

    folder = written(Builder, staging)
    with os_errors_as_input(staging):
        (folder / MARK).touch()
    return folder
