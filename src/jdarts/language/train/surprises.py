"""Gathers, while a text is evaluated, which words a language model did not expect."""

from collections.abc import Sequence

import numpy as np

from jdarts.language.evaluation import WordAnswers
from jdarts.report.surprises import Passage, SurpriseRecord, WordLoss
from jdarts.runs import processes

#: Words and passages in a record, and words before a passage.
WORDS, PASSAGES, BEFORE = 20, 20, 10


class SurpriseCounter:
    """What surprises a model in a text that comes in pieces.

    Args:
      text: which text, in words.
      vocabulary: the words.
    """

    def __init__(self, text: str, vocabulary: Sequence[str]) -> None:
        self._text = text
        self._vocabulary = vocabulary
        self._losses = np.zeros(len(vocabulary))
        self._counts = np.zeros(len(vocabulary), np.int64)
        self._right = 0
        # The worst place of each word, by the word.
        self._worst: dict[int, tuple[float, Sequence[int], int, float]] = {}
        self._before: np.ndarray | None = None

    def add(self, words: np.ndarray, targets: np.ndarray, mask: np.ndarray, answers: WordAnswers) -> None:
        """Counts a piece.

        Args:
          words: int32 `[T, B]`.
          targets: int32 `[T, B]`, the words after them.
          mask: bool `[T, B]`, the words that count.
          answers: what the model says of the targets.
        """
        losses, guesses, confidences = (np.asarray(each).T for each in processes.fetch(tuple(answers)))
        np.add.at(self._losses, targets[mask], losses[mask])
        np.add.at(self._counts, targets[mask], 1)
        self._right += int(np.sum((guesses == targets) & mask))
        read = words if self._before is None else np.concatenate([self._before, words])
        shift = len(read) - len(words)
        least = min((each[0] for each in self._worst.values()), default=-np.inf) if self._is_full else -np.inf
        for row, column in np.argwhere(mask & (losses > least)):
            word, loss = int(targets[row, column]), float(losses[row, column])
            if word not in self._worst or loss > self._worst[word][0]:
                end = shift + row + 1
                context = read[max(0, end - BEFORE) : end, column].tolist()
                self._worst[word] = loss, context, int(guesses[row, column]), float(confidences[row, column])
        self._worst = dict(sorted(self._worst.items(), key=lambda item: -item[1][0])[:PASSAGES])
        self._before = read[-BEFORE:]

    def _name(self, guess: int) -> str:
        """A guessed word; the network's table may have rows without one."""
        return self._vocabulary[guess] if guess < len(self._vocabulary) else "no word"

    @property
    def _is_full(self) -> bool:
        return len(self._worst) == PASSAGES

    def record(self) -> SurpriseRecord:
        """What has been counted so far."""
        names = self._vocabulary
        order = map(int, np.argsort(-self._losses, kind="stable")[:WORDS])
        dearest = [word for word in order if self._counts[word]]
        return SurpriseRecord(
            text=self._text,
            total=int(self._counts.sum()),
            right=self._right,
            words=[
                WordLoss(names[word], int(self._counts[word]), float(self._losses[word] / self._counts[word]))
                for word in dearest
            ],
            passages=[
                Passage([names[each] for each in context], names[word], loss, self._name(guess), confidence)
                for word, (loss, context, guess, confidence) in self._worst.items()
            ],
        )
