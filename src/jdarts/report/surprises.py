"""The words that surprised a trained language model, as its run's folder records them."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from jdarts.files.json_data import Fields, parse_json


class WordLoss(NamedTuple):
    """A word with what it costs.

    Attributes:
      word: the word.
      count: how often it stands in the text.
      loss: its mean loss in nats.
    """

    word: str
    count: int
    loss: float


class Passage(NamedTuple):
    """A place in a text where the model expected something else.

    Attributes:
      before: the words before it, at most ten.
      word: the word that stands there.
      loss: its loss in nats.
      guess: the most probable word.
      confidence: the probability of the guess, 0 to 1.
    """

    before: Sequence[str]
    word: str
    loss: float
    guess: str
    confidence: float


class SurpriseRecord(NamedTuple):
    """What surprised a model in a text.

    Attributes:
      text: which text, in words.
      total: number of words of the text.
      right: how often the most probable word was the right one.
      words: the words with the largest share of the loss, the largest first.
      passages: the places of the largest losses, a word once, the largest first.
    """

    text: str
    total: int
    right: int
    words: Sequence[WordLoss]
    passages: Sequence[Passage]

    def to_json(self) -> str:
        """The record as JSON."""
        parts = {
            "words": [each._asdict() for each in self.words],
            "passages": [each._asdict() for each in self.passages],
        }
        return json.dumps(self._asdict() | parts)


def read_surprises(content: bytes) -> SurpriseRecord:
    """Reads a record.

    Raises:
      ValueError: it is damaged.
    """
    fields = Fields(parse_json(content))
    words = [WordLoss(each.text("word"), each.count("count"), each.number("loss")) for each in fields.objects("words")]
    passages = [
        Passage(
            each.texts("before"), each.text("word"), each.number("loss"), each.text("guess"), each.number("confidence")
        )
        for each in fields.objects("passages")
    ]
    return SurpriseRecord(fields.text("text"), fields.count("total"), fields.count("right"), words, passages)
