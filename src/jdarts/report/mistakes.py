"""What a trained network gets wrong, as its run's folder records it."""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from jdarts.files.json_data import Fields, parse_json

#: Most pairs of classes that a record lists: all pairs of forty classes.
MOST_PAIRS = 1_560


class Confusion(NamedTuple):
    """How often one class is taken for another.

    Attributes:
      label: index of the class.
      guess: index of the other one.
      count: number of images.
    """

    label: int
    guess: int
    count: int


class Mistake(NamedTuple):
    """One image that the network gets wrong.

    Attributes:
      place: its place among the images, from 0.
      name: what its set calls it, such as its file; may be empty.
      label: index of its class.
      guess: index of the most probable class.
      confidence: the probability of the guess, 0 to 1.
      of_label: the probability of its class, 0 to 1.
      picture: a small PNG file.
    """

    place: int
    name: str
    label: int
    guess: int
    confidence: float
    of_label: float
    picture: bytes


class MistakeRecord(NamedTuple):
    """What a network gets wrong.

    Attributes:
      images: which images, in words, such as `test images`.
      class_names: one name per label.
      totals: number of images of each class.
      rights: how many of them are right.
      confusions: pairs of different classes, the most frequent first, at most `MOST_PAIRS`.
      worst: the most confident mistakes, the most confident first.
    """

    images: str
    class_names: Sequence[str]
    totals: Sequence[int]
    rights: Sequence[int]
    confusions: Sequence[Confusion]
    worst: Sequence[Mistake]

    def to_json(self) -> str:
        """The record as JSON."""
        fields: dict[str, Any] = self._asdict()
        fields["worst"] = [
            {**each._asdict(), "picture": base64.b64encode(each.picture).decode()} for each in self.worst
        ]
        return json.dumps(fields)


def read_mistakes(content: bytes) -> MistakeRecord:
    """Reads a record.

    Raises:
      ValueError: it is damaged.
    """
    fields = Fields(parse_json(content))
    names = fields.texts("class_names")
    totals, rights = (_counts(fields.listed(name)) for name in ("totals", "rights"))
    if not len(names) == len(totals) == len(rights):
        raise ValueError("the classes have no name or no count")
    confusions = [Confusion(*_counts(each, 3)) for each in fields.listed("confusions")]
    worst = [_mistake(each) for each in fields.objects("worst")]
    pairs = [(each.label, each.guess) for each in (*confusions, *worst)]
    if not all(0 <= label < len(names) for pair in pairs for label in pair):
        raise ValueError("a label has no class")
    return MistakeRecord(fields.text("images"), names, totals, rights, confusions, worst)


def _mistake(fields: Fields) -> Mistake:
    try:
        picture = base64.b64decode(fields.text("picture"), validate=True)
    except binascii.Error as error:
        raise ValueError(f"a picture is damaged: {error}") from None
    return Mistake(
        place=fields.count("place"),
        name=fields.text("name"),
        label=fields.count("label"),
        guess=fields.count("guess"),
        confidence=fields.number("confidence"),
        of_label=fields.number("of_label"),
        picture=picture,
    )


def _counts(values: Any, length: int | None = None) -> list[int]:
    if not isinstance(values, list) or length not in (None, len(values)):
        raise ValueError("a list of counts is missing, or has another length")
    return [Fields({"count": value}).count("count") for value in values]
