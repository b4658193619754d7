"""Settings of runs: their checks, their form on the command line and in a run's `config.json`."""

import dataclasses
import hashlib
import json
import math
import numbers
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import tyro

from jdarts.errors import InputError
from jdarts.genotype.text import is_genotype_text, plain_text
from jdarts.space import MOST_CELLS

Config = TypeVar("Config", bound=Any)

#: Annotations of fields that the command line shows in a way of their own.
Folder = tyro.conf.arg(metavar="DIR", help_behavior_hint="")
FromDataset = tyro.conf.arg(help_behavior_hint="(default: what suits the images)")

#: Settings of every run that may differ between two starts of it: its result does not depend on them.
WITHOUT_EFFECT = (
    "data_dir",
    "run_dir",
    "log_every",
    "checkpoint_minutes",
    "keep_checkpoints",
    "images_on",
    "workers",
    "devices",
    "parallel",
    "cluster",
    "coordinator",
    "num_processes",
    "process_id",
)

#: What runs did before there was a setting for it: their `config.json` does not have these.
BEFORE = {
    "batch_statistics": "synchronised",
    "color_jitter": [0.0, 0.0, 0.0, 0.0],
    "evaluation_statistics": "running",
    "image_size": None,
    "microbatches": 1,
    "precision": "float32",
    "split_seed": None,
    "stop": None,
    "train_words": None,
}


def option(name: str) -> str:
    """The option of the command line that sets a field."""
    return f"--{name.replace('_', '-')}"


class Bounds(NamedTuple):
    """The numbers that a setting may be: whole ones where the least is an `int`.

    Attributes:
      least: the smallest.
      most: the largest.
      wanted: what a message asks for in place of a smaller number.
      wanted_less: what a message asks for in place of a larger one.
    """

    least: float
    most: float
    wanted: str = ""
    wanted_less: str = ""

    def check(self, name: str, value: Any) -> None:
        """Raises an `InputError` for a value of the option `name` that is none of these numbers."""
        whole = isinstance(self.least, int)
        kind: Any = numbers.Integral if whole else numbers.Real
        if not isinstance(value, kind):
            raise InputError(f"{option(name)} is {value!r}; give a {'whole ' if whole else ''}number")
        if not self.least <= value <= self.most:
            raise InputError(f"{option(name)} is {_number_text(value)}; give {self._wanted_for(value)}")

    def _wanted_for(self, value: Any) -> str:
        if value > self.most or (self.wanted and value > 0):
            return self.wanted_less or f"a number from {self.least} to {self.most}"
        return self.wanted or f"{self.least} or more"


#: Numbers that reach the arithmetic of a step are within the normal numbers of float32, their reciprocals too.
_SMALLEST, _LARGEST = 1e-37, 1e38
POSITIVE = Bounds(_SMALLEST, _LARGEST, "a number above 0")
NOT_NEGATIVE = Bounds(0.0, _LARGEST, "0 or more")
BELOW_ONE = Bounds(0.0, math.nextafter(1, 0), *("a number from 0 to below 1",) * 2)
WITHIN_ONE = Bounds(_SMALLEST, math.nextafter(1, 0), *("a number between 0 and 1",) * 2)
SEED = Bounds(0, 2**32 - 1, wanted_less="a number below 2^32")

#: Of every run.
RUN_BOUNDS: Mapping[str, Bounds] = {
    "epochs": Bounds(1, 1_000_000),
    "seed": SEED,
    "log_every": Bounds(1, 1_000_000_000),
    "checkpoint_minutes": POSITIVE,
    "keep_checkpoints": Bounds(2, 1_000_000),
    "devices": Bounds(1, 65_536),
}

#: Sizes of networks. A network of the largest does not fit any machine; its shapes can still be counted.
CHANNELS = Bounds(1, 65_536)
CELLS = Bounds(1, MOST_CELLS)
NODES = Bounds(1, 32)
VOCABULARY = Bounds(1, 1_000_000_000)
WIDTH = Bounds(1, 1_000_000)
#: Pixels.
PADDING = Bounds(0, 4096)
CUTOUT = Bounds(0, 8192)


def check_settings(config: Any, bounds: Mapping[str, Bounds]) -> None:
    """Checks the fields of a configuration one by one: numbers, words to choose from, texts and places.

    Args:
      config: a dataclass.
      bounds: of its numbers, by name; None stands for a default, and passes.

    Raises:
      InputError: a field that is out of its bounds, no such word, or a text that no file system and no terminal takes.
    """
    for name, bound in bounds.items():
        value = getattr(config, name)
        if value is not None:
            bound.check(name, value)
    for name, kind in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise InputError(f"{option(name)} is {value!r}; give {' or '.join(map(str, get_args(kind)))}")
        if isinstance(value, (str, Path)):
            _check_text(name, str(value))


def _check_text(name: str, text: str) -> None:
    if "\0" in text or not is_unicode(text):
        raise InputError(f"{option(name)} is {text!a}; give a text in UTF-8 without zero bytes")


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8, which arguments with other bytes cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_dataset_name(name: str) -> None:
    """Raises an `InputError` for a data set's name that would lead out of the folder of all sets or of all runs."""
    if not name.strip() or name in (".", "..") or set(name) & set("/\\\n\r\t"):
        raise InputError(f"--dataset is {name!r}; give the name of a data set, not a place or an empty text")


def _number_text(value: Any) -> str:
    # Python writes no whole numbers of more than 4,300 digits.
    digits = isinstance(value, int) and value.bit_length() // 3
    return f"a number of about {digits:,} digits" if digits > 1000 else str(value)


def as_json(config: Any, *, without: Iterable[str] = WITHOUT_EFFECT) -> dict[str, Any]:
    """The fields of a configuration that decide the result, as JSON data."""
    fields = dataclasses.asdict(config)
    for name in without:
        fields.pop(name, None)
    return json.loads(json.dumps(fields, default=_as_plain))


def _as_plain(number: Any) -> Any:
    """A number of NumPy's as one of Python's."""
    return number.item()


def named_after(config: Config, data: Any, kind: type) -> Config:
    """A configuration with the name of the data that are given beside it, if there are any.

    Args:
      config: the settings, with a field `dataset`.
      data: the images or the text, or None.
      kind: the class that they must be of.

    Raises:
      InputError: they are something else.
    """
    if data is None:
        return config
    if not isinstance(data, kind):
        raise InputError(
            f"the data are a {type(data).__name__}; give a {kind.__name__}, or the name of a set in the configuration's dataset"
        )
    return dataclasses.replace(config, dataset=data.name)


def folder_name(name: str) -> str:
    """A data set's name as a part of a folder's name: what is no letter, digit, dot, underscore or hyphen becomes a hyphen."""
    return re.sub(r"[^\w.-]+", "-", name)


def genotype_label(genotype: str, published: Collection[str]) -> str:
    """A name for folders: that of a published cell, of a file or a run's folder, or a digest of the text form."""
    if (name := plain_text(genotype).strip()) in published:
        return name
    if is_genotype_text(genotype):
        return hashlib.sha256(genotype.encode()).hexdigest()[:8]
    path, _, member = genotype.rpartition(":")
    return f"{Path(path).resolve().stem}-{member}" if path else Path(genotype).resolve().stem
