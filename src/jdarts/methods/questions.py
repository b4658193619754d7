"""How a selection asks a supernet for scores: it is a generator that yields mixtures and receives what each reaches.

So the selection is pure, knows no network, and several of them can ask stacked supernets at once.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

R = TypeVar("R")
#: `{kind: [E, O]}`, the weights of the operations of every edge.
Tables = Mapping[str, np.ndarray]


class Score(NamedTuple):
    """What a supernet reaches at a mixture, means over images.

    Attributes:
      accuracy: 0 to 1.
      loss: cross entropy.
    """

    accuracy: float
    loss: float


class Question(NamedTuple):
    """A mixture to be scored.

    Attributes:
      mixture: the weights of the operations.
      whole: whether all images count, where the selection compares most mixtures on a few batches.
    """

    mixture: Tables
    whole: bool = False


#: Yields questions, receives their scores, and returns a result.
Asking = Generator[Question, Score, R]


def answered_together(
    askings: Sequence[Asking[R]], evaluate: Callable[[Sequence[Question]], Sequence[Score]]
) -> list[R]:
    """The results of several selections, with the answers of as many supernets.

    Args:
      askings: the selections; those that ask at the same time ask for the same images.
      evaluate: scores one question of each supernet. A selection that has ended repeats its last question.

    Returns:
      The result of each, in order.
    """
    questions: dict[int, Question] = {}
    results: dict[int, R] = {}

    def ask(place: int, score: Score | None) -> None:
        try:
            questions[place] = next(askings[place]) if score is None else askings[place].send(score)
        except StopIteration as end:
            results[place] = end.value

    for place in range(len(askings)):
        ask(place, None)
    while len(results) < len(askings):
        # One that has asked nothing at all borrows the question of another.
        some = next(questions[place] for place in questions if place not in results)
        scores = evaluate([questions.get(place, some) for place in range(len(askings))])
        for place, score in enumerate(scores):
            if place not in results:
                ask(place, score)
    return [results[place] for place in range(len(askings))]
