"""Decoded images of the user's own, before they become an image set."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jdarts.data.dataset import ImageSplit
from jdarts.data.own.pictures import Problem
from jdarts.data.own.sizes import Sizes


@dataclasses.dataclass(frozen=True, eq=False)
class DecodedSplit:
    """The images of one split.

    Attributes:
      images: images and labels.
      digests: equal for equal pictures, `[N]`, of type S16.
      names: what messages call each image, `[N]`.
    """

    images: ImageSplit
    digests: np.ndarray
    names: Sequence[str]


@dataclasses.dataclass(frozen=True, eq=False)
class Decoded:
    """All images of a source in one size.

    Attributes:
      kind: what the source is, for people.
      splits: by name, `train` among them.
      class_names: one name per label.
      sizes: number of images by (width, height), before they were resized.
      problems: files that are left out.
      notes: sentences about how the images were read.
    """

    kind: str
    splits: Mapping[str, DecodedSplit]
    class_names: tuple[str, ...]
    sizes: Sizes
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
