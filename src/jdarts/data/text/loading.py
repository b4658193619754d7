"""One function that gives any corpus by name."""

import os

from jdarts.data.text.catalogue import SOTU
from jdarts.data.text.corpus import TextCorpus
from jdarts.data.text.prepared import load_prepared_text
from jdarts.data.text.sotu import load_sotu


def load_text(name: str, data_dir: str | os.PathLike[str] | None = None) -> TextCorpus:
    """Loads a whole corpus into memory. Never downloads.

    Args:
      name: `sotu`, which needs its package alone; `ptb`, `wikitext2` or a name of the user's own, which must have been
        prepared with `python -m jdarts.data prepare NAME --from FOLDER`.
      data_dir: where prepared sets lie; by default TFDS_DATA_DIR, or else ~/tensorflow_datasets.

    Raises:
      InputError: the corpus is not there, or its files are damaged.
    """
    return load_sotu() if name == SOTU else load_prepared_text(name, data_dir)
