"""What an image set holds, in lines for people: classes, sizes, imbalance, duplicates and files that are left out."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jdarts.data.dataset import ImageDataset, ImageSplit
from jdarts.data.own.assembling import assemble
from jdarts.data.own.decoded import Decoded, DecodedSplit
from jdarts.data.own.pictures import TEST, TRAIN
from jdarts.data.own.resizing import digests_of

#: Most classes, sizes and groups of duplicates that are listed.
_CLASSES, _SIZES, _GROUPS = 100, 5, 10
#: How many times more images the largest class may have before the report calls it imbalance.
_IMBALANCE = 3


class Duplicates(NamedTuple):
    """Images with the same pixels.

    Attributes:
      names: what messages call them.
      splits: the splits that they are in.
      classes: the labels that they have.
    """

    names: tuple[str, ...]
    splits: frozenset[str]
    classes: frozenset[int]


def decoded_of(dataset: ImageDataset) -> Decoded:
    """An image set in memory in the form that a report reads."""
    splits = {TRAIN: dataset.train, TEST: dataset.test}
    height, width, _ = dataset.image_shape
    return Decoded(
        kind=f"the image set {dataset.name}",
        splits={name: _decoded_split(name, split) for name, split in splits.items()},
        class_names=dataset.class_names,
        sizes={(width, height): sum(map(len, splits.values()))},
        problems=(),
        notes=(f"images of {width}×{height}",),
    )


def find_duplicates(decoded: Decoded) -> list[Duplicates]:
    """The groups of images with the same pixels, those that harm most first: in two splits, then in two classes."""
    groups: dict[bytes, list[tuple[str, str, int]]] = {}
    for split, images in decoded.splits.items():
        for digest, name, label in zip(images.digests.tolist(), images.names, images.images.labels.tolist()):
            groups.setdefault(digest, []).append((name, split, label))
    found = [
        Duplicates(
            tuple(name for name, _, _ in group),
            frozenset(split for _, split, _ in group),
            frozenset(label for _, _, label in group),
        )
        for group in groups.values()
        if len(group) > 1
    ]
    return sorted(found, key=lambda each: (-len(each.splits), -len(each.classes)))


def report(decoded: Decoded, name: str) -> Iterator[str]:
    """The lines of a report.

    Args:
      decoded: the images.
      name: the set's name.

    Raises:
      InputError: nothing can be trained on these images; the lines before say what there is.
    """
    yield f"{name}: {decoded.kind}"
    yield ""
    yield from _class_table(decoded)
    yield ""
    yield from _size_lines(decoded)
    yield from _duplicate_lines(find_duplicates(decoded), decoded.class_names)
    if decoded.problems:
        yield f"left out: {len(decoded.problems):,} files"
        yield from (f"  {problem}" for problem in decoded.problems)
    else:
        yield "left out: none"
    yield ""
    _, notes = assemble(name, decoded)
    yield "a run reads them as follows:"
    yield from (f"  {note}" for note in notes)


def _decoded_split(name: str, split: ImageSplit) -> DecodedSplit:
    return DecodedSplit(split, digests_of(split.images), [f"{name}[{row}]" for row in range(len(split))])


def _class_table(decoded: Decoded) -> Iterator[str]:
    counts = {
        split: np.bincount(images.images.labels, minlength=len(decoded.class_names))
        for split, images in decoded.splits.items()
    }
    width = max(map(len, ("class", "all", *decoded.class_names[:_CLASSES])))
    yield f"{'class':{width}}" + "".join(f"{split:>10}" for split in counts)
    for label, name in enumerate(decoded.class_names[:_CLASSES]):
        yield f"{name:{width}}" + "".join(f"{each[label]:>10,}" for each in counts.values())
    if len(decoded.class_names) > _CLASSES:
        yield f"and {len(decoded.class_names) - _CLASSES:,} more classes"
    yield f"{'all':{width}}" + "".join(f"{each.sum():>10,}" for each in counts.values())
    train = counts[TRAIN]
    ratio = train.max() / max(1, train.min())
    least, most = (decoded.class_names[int(pick(train))] for pick in (np.argmin, np.argmax))
    yield ""
    if ratio < _IMBALANCE:
        yield f"balance: the largest class has {ratio:.1f} times the training images of the smallest"
    else:
        yield f"imbalance: {most} has {ratio:.1f} times the training images of {least}"


def _size_lines(decoded: Decoded) -> Iterator[str]:
    common = Counter(decoded.sizes).most_common(_SIZES)
    listed = ", ".join(f"{count:,} of {width}×{height}" for (width, height), count in common)
    more = f" and {len(decoded.sizes) - _SIZES:,} more sizes" if len(decoded.sizes) > _SIZES else ""
    yield f"sizes: {listed}{more}"


def _duplicate_lines(found: Sequence[Duplicates], class_names: Sequence[str]) -> Iterator[str]:
    if not found:
        yield "exact duplicates: none"
        return
    across = sum(len(each.splits) > 1 for each in found)
    contrary = sum(len(each.classes) > 1 for each in found)
    remarks = [f"{across:,} in several splits"] * bool(across) + [f"{contrary:,} in several classes"] * bool(contrary)
    said = f", of which {' and '.join(remarks)}" if remarks else ""
    yield f"exact duplicates: {len(found):,} picture{'s' if len(found) > 1 else ''} that occur more than once{said}"
    for each in found[:_GROUPS]:
        yield f"  {' = '.join(each.names[:4])}{f' and {len(each.names) - 4:,} more' if len(each.names) > 4 else ''}"
    if len(found) > _GROUPS:
        yield f"  and {len(found) - _GROUPS:,} more"
