"""A corpus as token numbers, its vocabulary, and the unigram model."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jdarts.data.checksum import checksum
from jdarts.errors import InputError

#: The token at the end of each line.
END = "<eos>"
#: The token for every word outside the vocabulary.
UNKNOWN = "<unk>"


@dataclasses.dataclass(frozen=True, eq=False)
class TextCorpus:
    """A corpus: three texts as token numbers, and their vocabulary.

    Attributes:
      name: its name, `sotu`, `ptb`, `wikitext2` or the user's own.
      vocabulary: the `V` words; a word's number is its index.
      train: int32 `[N]`, the words of the training text in order, with `<eos>` at the end of each line.
      valid: int32 `[N]`, the validation text.
      test: int32 `[N]`, the test text.

    Raises:
      InputError: a text has another type or shape, is empty, or has a number outside of the vocabulary.
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
        """JSON data that identifies this corpus, with a checksum of its words."""
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
    """Numbers the words of all three texts in the order of their first occurrence, as the reference code does.

    Args:
      name: the corpus' name.
      splits: the lines of `train`, `valid` and `test`, each a list of words; `<eos>` is added to each.

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
    """Perplexity of the unigram model, which knows only the frequency of each word: a baseline for any model.

    Frequencies have add-one smoothing.

    Args:
      train: int32 `[N]`, the words whose frequencies are counted.
      words: int32 `[M]`, the words to predict.
      vocabulary: number of words `V`.

    Returns:
      `exp` of the mean negative log-likelihood per word.
    """
    counts = np.bincount(train, minlength=vocabulary) + 1.0
    logs = np.log(counts / counts.sum())
    return float(np.exp(-np.mean(logs[words])))
