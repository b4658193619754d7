"""What a source of pictures gives: labelled files in splits, and what it leaves out."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import BinaryIO, NamedTuple

#: Splits in the order in which messages show them.
TRAIN, VALID, TEST = SPLITS = "train", "val", "test"
#: What folders and sets call them.
SPLIT_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALID),
    **dict.fromkeys(("test", "testing"), TEST),
}
#: Most entries of a list in a message.
SHOWN = 5
#: Images from which on a line says that they are being read.
MANY = 2000
#: Files that are left out and named; `inspect` names all.
_NAMED = 10


class Picture(NamedTuple):
    """A picture's file with its label.

    Attributes:
      name: what messages call it.
      label: index of its class.
      read: reads the file's content; raises `OSError` or `InputError` if it cannot.
      size: of the file in bytes, where it is known.
      open: opens the file, where its head can be read without the rest; raises as `read`.
    """

    name: str
    label: int
    read: Callable[[], bytes]
    size: int = 0
    open: Callable[[], BinaryIO] | None = None


class Problem(NamedTuple):
    """A file that is left out.

    Attributes:
      name: what messages call it.
      reason: why.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} {self.reason}"


@dataclasses.dataclass(frozen=True)
class Pictures:
    """The pictures of a source, before they are decoded.

    Attributes:
      kind: what the source is, for people.
      find: finds the pictures of each split. A set in the cache is known by `identity`, and its pictures need not be found.
      class_names: one name per label.
      problems: files that are left out.
      identity: JSON data that changes whenever a file does.
    """

    kind: str
    find: Callable[[], Mapping[str, Sequence[Picture]]]
    class_names: tuple[str, ...]
    problems: tuple[Problem, ...]
    identity: object

    @functools.cached_property
    def splits(self) -> Mapping[str, Sequence[Picture]]:
        """The pictures by split, `train` among them; none is empty."""
        return self.find()


def problem_lines(source: object, problems: Sequence[Problem]) -> list[str]:
    """What is left out of a source, each once; the first ones if there are many."""
    lines = [f"left out: {problem}" for problem in problems[:_NAMED]]
    if len(problems) > _NAMED:
        rest = len(problems) - _NAMED
        lines.append(f"and {rest:,} more files are left out; python -m jdarts.data inspect {source} names all")
    return lines


def usual_or_only(names: Sequence[str], usual: str) -> str | None:
    """The usual name if it is among the names, or else the only one; None if there is none, or if there are several."""
    if usual in names:
        return usual
    return names[0] if len(names) == 1 else None


def listed(names: Iterable[str], limit: int = SHOWN) -> str:
    """The first names of a list, and how many more there are."""
    names = list(names)
    rest = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
