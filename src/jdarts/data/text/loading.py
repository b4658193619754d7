"""Loads a corpus by its name."""

import os

from jdarts.data.text.catalogue import SOTU
from jdarts.data.text.corpus import TextCorpus
from jdarts.data.text.prepared import load_prepared_text
from jdarts.data.text.sotu import load_sotu


def load_text(name: str, data_dir: str | os.PathLike[str] | None = None) -> TextCorpus:
    """Loads a whole corpus into memory. Never downloads.

    Args:
      name: `sotu`, which only needs its package; `ptb`, `wikitext2` or the name of a user's own corpus, which must have been
        prepared with `python -m jdarts.data prepare NAME --from FOLDER`.
      data_dir: folder of prepared sets; by default TFDS_DATA_DIR, or else ~/tensorflow_datasets.

    Raises:
      InputError: the corpus is missing, or its files are damaged.
    """
    return load_sotu() if name == SOTU else load_prepared_text(name, data_dir)
