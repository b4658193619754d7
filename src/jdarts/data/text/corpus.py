"""A corpus as numbers, its vocabulary, and the simplest model of it."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jdarts.data.checksum import checksum
from jdarts.errors import InputError

#: Stands at the end of every line.
END = "<eos>"
#: Stands for every word outside the vocabulary.
UNKNOWN = "<unk>"


@dataclasses.dataclass(frozen=True, eq=False)
class TextCorpus:
    """A corpus in three streams of words.

    Attributes:
      name: its name, `sotu`, `ptb`, `wikitext2` or the user's own.
      vocabulary: the `V` words; a word's number is its place.
      train: int32 `[N]`, the words of the training text in order, `<eos>` at the end of each line.
      valid: int32 `[N]`, those of the validation text.
      test: int32 `[N]`, those of the test text.

    Raises:
      InputError: a stream of another type or shape, without words, or with a number outside of the vocabulary.
    """

    name: str
    vocabulary: tuple[str, ...]
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    def __post_init__(self) -> None:
        for split in ("train", "valid", "test"):
            words = getattr(self, split)
            if words.dtype != np.int32 or words.ndim != 1:
                raise InputError(f"{split} is {words.dtype} {list(words.shape)}; it must be int32 [N]")
            if not len(words):
                raise InputError(f"the {split} text of {self.name} is empty; give a text with words")
            if words.min() < 0 or words.max() >= len(self.vocabulary):
                raise InputError(
                    f"the {split} text of {self.name} has the word number {words.max() if words.min() >= 0 else words.min()}"
                    f", its vocabulary has {len(self.vocabulary):,} words; numbers run from 0 to V − 1"
                )

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What tells this corpus from others, as JSON data; the words as a checksum."""
        vocabulary = np.frombuffer("\n".join(self.vocabulary).encode(), np.uint8)
        return {
            "name": self.name,
            "vocabulary": len(self.vocabulary),
            "train": len(self.train),
            "valid": len(self.valid),
            "test": len(self.test),
            "sha256": checksum(vocabulary, self.train, self.valid, self.test),
        }


def corpus_of_lines(name: str, splits: Mapping[str, Iterable[list[str]]]) -> TextCorpus:
    """Numbers the words of all three texts in the order in which they first come, as the reference code does.

    Args:
      name: the corpus' name.
      splits: for `train`, `valid` and `test` the lines, each a list of words; `<eos>` is put at its end.

    Returns:
      The corpus.

    Raises:
      InputError: a text is empty.
    """
    numbers: dict[str, int] = {}
    streams = {}
    for split in ("train", "valid", "test"):
        stream = []
        for line in splits[split]:
            stream += [numbers.setdefault(word, len(numbers)) for word in (*line, END)]
        streams[split] = np.array(stream, np.int32)
    return TextCorpus(name, tuple(numbers), **streams)


def unigram_perplexity(train: np.ndarray, words: np.ndarray, vocabulary: int) -> float:
    """Perplexity of the model that knows no more than how often each word comes: what any model must beat.

    Each word of the vocabulary is counted once more than it comes (add-one smoothing).

    Args:
      train: int32 `[N]`, the words that are counted.
      words: int32 `[M]`, the words that are told.
      vocabulary: number of words `V`.

    Returns:
      `exp` of the mean negative log-probability of a word.
    """
    counts = np.bincount(train, minlength=vocabulary) + 1.0
    logs = np.log(counts / counts.sum())
    return float(np.exp(-np.mean(logs[words])))
