"""Gathers, while images are evaluated, what the network gets wrong."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from jdarts.data.thumbnails import thumbnail
from jdarts.report.mistakes import MOST_PAIRS, Confusion, Mistake, MistakeRecord
from jdarts.runs import processes
from jdarts.train.step import Answers

#: Images in a record, and most pixels of a side.
WORST, SIDE = 24, 64


class MistakeCounter:
    """What a network gets wrong among images that come in batches.

    Args:
      images: which images, in words.
      class_names: one name per label.
      name_of: what the set calls the image at a place; may be empty.
    """

    def __init__(self, images: str, class_names: Sequence[str], name_of: Callable[[int], str]) -> None:
        self._images = images
        self._class_names = class_names
        self._name_of = name_of
        self._pairs: Counter[tuple[int, int]] = Counter()
        self._worst: list[tuple[Mistake, np.ndarray]] = []
        self._seen = 0

    def add(self, images: np.ndarray, labels: np.ndarray, mask: np.ndarray, answers: Answers) -> None:
        """Counts a batch.

        Args:
          images: uint8 `[B, H, W, C]`.
          labels: int32 `[B]`.
          mask: bool `[B]`, the images that count.
          answers: what the network says of them.
        """
        guesses, confidences, of_labels = (np.asarray(each) for each in processes.fetch(tuple(answers)))
        counted = np.flatnonzero(mask)
        self._pairs.update(zip(labels[counted].tolist(), guesses[counted].tolist()))
        wrong = counted[labels[counted] != guesses[counted]]
        for row in wrong[np.argsort(-confidences[wrong], kind="stable")][:WORST]:
            found = Mistake(
                place=self._seen + int(np.sum(mask[:row])),
                name="",
                label=int(labels[row]),
                guess=int(guesses[row]),
                confidence=float(confidences[row]),
                of_label=float(of_labels[row]),
                picture=b"",
            )
            self._worst.append((found, images[row].copy()))
        self._seen += len(counted)
        self._worst = sorted(self._worst, key=lambda each: -each[0].confidence)[:WORST]

    def record(self) -> MistakeRecord:
        """What has been counted so far."""
        classes = range(len(self._class_names))
        totals = Counter[int]()
        for (label, _), count in self._pairs.items():
            totals[label] += count
        confused = [Confusion(*pair, count) for pair, count in self._pairs.items() if pair[0] != pair[1]]
        return MistakeRecord(
            images=self._images,
            class_names=tuple(self._class_names),
            totals=[totals[label] for label in classes],
            rights=[self._pairs[label, label] for label in classes],
            confusions=sorted(confused, key=lambda each: (-each.count, each))[:MOST_PAIRS],
            worst=[
                each._replace(name=self._name_of(each.place), picture=thumbnail(image, SIDE))
                for each, image in self._worst
            ],
        )
