"""A folder of pictures as a set that training reads picture by picture, as it does ImageNet: large crops, any number of files."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jdarts.data.own import cache
from jdarts.data.own.assembling import SPLIT_SEED, rows_without_test, set_name, validation_as_test
from jdarts.data.own.decoding import Undecodable, upright
from jdarts.data.own.pictures import MANY, TEST, TRAIN, VALID, Picture, Pictures, Problem, problem_lines
from jdarts.data.own.reading import check_classes, readable, unreadable
from jdarts.data.own.scanning import scan
from jdarts.data.splitting import stable_permutation
from jdarts.data.streamed.dataset import LARGE, LargeDataset
from jdarts.errors import InputError


@dataclasses.dataclass(frozen=True)
class PictureSplit:
    """A split of a folder.

    Attributes:
      pictures: its files; worker processes get them too.
    """

    pictures: Sequence[Picture]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, place: int) -> tuple[bytes, int]:
        """The file of a picture, of any known format, and its label.

        Raises:
          InputError: the file is gone.
        """
        picture = self.pictures[place]
        return picture.read(), picture.label

    def decode(self, content: bytes) -> Any:
        """The picture of a file, as it is meant to be seen.

        Raises:
          InputError: the file is damaged.
        """
        try:
            return upright(content)
        except Undecodable as error:
            raise InputError(f"a picture cannot be decoded: it {error}; mend, remove or replace it") from error

    def where(self, place: int) -> str:
        """The name of the file of a picture."""
        return self.pictures[place].name

    @property
    def labels(self) -> np.ndarray:
        """All labels, int32 `[N]`."""
        return np.array([picture.label for picture in self.pictures], np.int32)


def stream_path(path: Path, say: Callable[[str], None], side: int | None = None) -> LargeDataset:
    """Opens a folder of pictures for training. Files that cannot be decoded are left out and named.

    The first time, every file is decoded; until a file changes, later starts read its head alone.

    Mean and standard deviation are those of ImageNet. The set's fingerprint has the names and sizes of the files.

    Args:
      path: the folder.
      say: shows how the pictures are read.
      side: side of the crops in pixels; None leaves it to the run.

    Raises:
      InputError: it holds no pictures that can be trained on.
    """
    name, found = set_name(path), scan(path)
    _, splits, problems = readable(found)
    splits = _decodable(path, found, splits, problems, say)
    train, test = splits[TRAIN], splits.get(TEST, splits.get(VALID))
    crops = "" if side is None else f", in random crops of {side}×{side}"
    notes = [f"{found.kind}, {len(found.class_names):,} classes, read picture by picture{crops}"]
    if test is None:
        labels = np.array([picture.label for picture in train], np.int32)
        rows, note = rows_without_test(labels, found.class_names)
        train, test = ([train[row] for row in each] for each in rows)
        notes.append(note)
    elif TEST not in splits:
        notes.append(validation_as_test(len(test)))
    elif VALID in splits:
        train = [*train, *splits[VALID]]
        notes.append(f"the {len(splits[VALID]):,} validation images join the training images")
    train = [train[row] for row in stable_permutation(len(train), SPLIT_SEED).tolist()]
    for line in (*notes, *problem_lines(path, problems)):
        say(f"{name}: {line}")
    usual = LARGE["imagenet2012"]
    return LargeDataset(
        name=name,
        train=PictureSplit(train),
        test=PictureSplit(test),
        class_names=found.class_names,
        mean=usual.mean,
        std=usual.std,
        augmentation=usual.augmentation,
        files=tuple(sorted((picture.name, picture.size) for picture in (*train, *test))),
        side=side,
    )


def _decodable(
    path: Path,
    found: Pictures,
    splits: Mapping[str, Sequence[Picture]],
    problems: list[Problem],
    say: Callable[[str], None],
) -> dict[str, list[Picture]]:
    """The pictures that can be decoded whole; extends the list of problems by the others."""
    key = cache.cache_key("decoded whole", str(path), found.identity)
    damaged = cache.read_problems(key)
    if damaged is None:
        every = [picture for pictures in splits.values() for picture in pictures]
        if len(every) >= MANY:
            say(f"checking {len(every):,} pictures of {path}, once: later starts need not, until a file changes")
        damaged = unreadable(every)
        cache.keep_problems(key, damaged)
    problems += damaged
    names = {problem.name for problem in damaged}
    kept = {split: [picture for picture in each if picture.name not in names] for split, each in splits.items()}
    check_classes(found.class_names, np.array([picture.label for picture in kept[TRAIN]], np.int32), problems)
    return {split: pictures for split, pictures in kept.items() if pictures}
