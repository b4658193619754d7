"""Settings in parts: dataclasses that several configurations share, and configurations made of them.

Each setting has one name in its configuration, however deep its part: as an option of the command line, a keyword of the
constructor and of `dataclasses.replace`, and an entry of `config.json`.
"""

import dataclasses
import difflib
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import tyro

from jdarts.errors import InputError, shortened
from jdarts.runs.bounds import Bounds, option

#: Annotations that change how the command line shows a field.
Folder = tyro.conf.arg(metavar="DIR", help_behavior_hint="")
Whole = tyro.conf.arg(metavar="INT", help_behavior_hint="")
FromDataset = tyro.conf.arg(help_behavior_hint="(default: what suits the images)")

#: Annotation of a setting that may differ between two starts of a run: the result does not depend on it.
WITHOUT_EFFECT = "without effect on the result"


class Recorded(NamedTuple):
    """Annotation of a setting that `config.json` holds in another form.

    Attributes:
      form: from the value to JSON data.
    """

    form: Callable[[Any], Any]


#: Values of settings in runs whose `config.json` is older than the setting.
BEFORE = {
    "alpha_clip": None,
    "alpha_fraction": None,
    "alpha_optimizer": "adam",
    "alphas_from": 0,
    "alphas_on": "valid",
    "auxiliary_decay": "none",
    "auxiliary_skip": "none",
    "b1": 0.9,
    "b2": 0.999,
    "batch_statistics": "synchronised",
    "budget_cells": None,
    "budget_channels": None,
    "budget_network": "cifar",
    "budget_rate": 1.0,
    "cell_kinds": "both",
    "color_jitter": [0.0, 0.0, 0.0, 0.0],
    "correlation": 0.0,
    "decision_batches": None,
    "decision_candidates": 1000,
    "decision_criterion": "accuracy",
    "decision_epochs": 5,
    "decision_finalists": 10,
    "decision_learning_rate": None,
    "decision_statistics": None,
    "dropped_operations": [],
    "earlier_cells": [],
    "earlier_partial_channels": [],
    "earlier_skip_dropout": [],
    "edge_operations": None,
    "edge_weights": False,
    "evaluation_statistics": "running",
    "freeze_below": None,
    "freeze_compared": "validation",
    "image_size": None,
    "kept_operations": [],
    "matmul_precision": "default",
    "max_latency_ms": None,
    "max_multiply_adds": None,
    "max_weights": None,
    "method": "darts",
    "microbatches": 1,
    "mixture": "softmax",
    "momentum": 0.0,
    "optimizer": "sgd",
    "output_nodes": None,
    "partial_channels": 1,
    "penalty": "none",
    "penalty_weight": None,
    "perturbation": "none",
    "perturbation_radius": 0.3,
    "nesterov": False,
    "network": "cifar",
    "plugin": [],
    "neumann_at": "virtual",
    "neumann_terms": 2,
    "precision": "float32",
    "search_drop_path": 0.0,
    "select": "argmax",
    "select_by": "brief",
    "skip_dropout": 0.0,
    "space": "darts",
    "split_seed": None,
    "stage": 0,
    "stages": "none",
    "step_order": "alphas_first",
    "stop": None,
    "temperature": 1.0,
    "temperature_end": None,
    "temperature_epochs": None,
    "train_words": None,
    "weight_steps": 1,
}


class Entry(NamedTuple):
    """One setting of a configuration class.

    Attributes:
      part: the field that holds the setting's part; empty for a field of the configuration itself.
      kind: its type, without annotations.
      marks: the annotations.
    """

    part: str
    kind: Any
    marks: tuple[Any, ...]


class Settings:
    """A dataclass of settings that belong together."""

    def check(self) -> None:
        """Checks each value alone: numbers, choices, texts and paths.

        The constructor does not call it, since the command line would wrap its message.

        Raises:
          InputError: a number out of its bounds, an unknown choice, or a text that no file system and no terminal takes.
            None stands for a default, and passes.
        """
        for name, entry in entries(type(self)).items():
            if not entry.part:
                _check_value(name, getattr(self, name), entry)


class Configuration(Settings):
    """A frozen dataclass with `init=False`, whose fields are settings or parts.

    The constructor takes settings of the parts by name, as any other: `SearchConfig(epochs=20)`,
    `dataclasses.replace(config, epochs=20)`. To read one, name its part: `config.loop.epochs`.
    """

    def __init__(self, **given: Any) -> None:
        """Builds the configuration.

        Args:
          **given: settings and parts by name. A setting replaces the one in its part; all others have their defaults.

        Raises:
          InputError: there is no such setting.
        """
        known, fields = entries(type(self)), dataclasses.fields(self)  # pyright: ignore[reportArgumentType]
        values = {field.name: given.pop(field.name, field.default) for field in fields}
        changes: dict[str, dict[str, Any]] = {}
        for name, value in given.items():
            if name not in known:
                raise InputError(_unknown(type(self), name, [*known, *values]))
            changes.setdefault(known[name].part, {})[name] = _as_path(value, known[name].kind)
        for part, changed in changes.items():
            values[part] = dataclasses.replace(values[part], **changed)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def check(self) -> None:
        """Checks every value that can be checked without the data, part by part.

        Raises:
          InputError: a value out of its range.
        """
        super().check()
        for value in vars(self).values():
            if isinstance(value, Settings) and not isinstance(value, Configuration):
                value.check()


@functools.cache
def entries(kind: type[Settings]) -> Mapping[str, Entry]:
    """The settings of a class and of its parts, by name, without those of nested configurations."""
    found: dict[str, Entry] = {}
    hints, annotated = get_type_hints(kind), get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):  # pyright: ignore[reportArgumentType]
        hint = hints[field.name]
        if not (isinstance(hint, type) and issubclass(hint, Settings)):
            found[field.name] = Entry("", hint, getattr(annotated[field.name], "__metadata__", ()))
        elif not issubclass(hint, Configuration):
            found |= {name: entry._replace(part=field.name) for name, entry in entries(hint).items()}
    return found


def flat(settings: Settings) -> dict[str, Any]:
    """The values of a configuration and its parts by name, as the constructor takes them; without nested configurations."""
    parts = entries(type(settings)).items()
    return {name: getattr(getattr(settings, entry.part) if entry.part else settings, name) for name, entry in parts}


def as_json(settings: Settings) -> dict[str, Any]:
    """The settings that decide the result, as JSON data; the constructor takes them back, but for `Recorded` ones."""
    known = entries(type(settings))
    deciding = {
        name: _recorded(value, known[name])
        for name, value in flat(settings).items()
        if WITHOUT_EFFECT not in known[name].marks
    }
    return json.loads(json.dumps(deciding, default=_as_plain))


def _recorded(value: Any, entry: Entry) -> Any:
    """A value in the form of `config.json`."""
    return next((mark.form(value) for mark in entry.marks if isinstance(mark, Recorded)), value)


def _as_plain(value: Any) -> Any:
    """A NumPy number as a Python number."""
    return value.item()


def _unknown(kind: type, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name[:80], known, n=1)
    mend = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return f"{kind.__name__} has no setting {shortened(name)}; {mend}"


def _as_path(value: Any, kind: Any) -> Any:
    """A text as a path where the setting is one."""
    return Path(value) if isinstance(value, str) and Path in (kind, *get_args(kind)) else value


def _check_value(name: str, value: Any, entry: Entry) -> None:
    for mark in entry.marks:
        if isinstance(mark, Bounds) and value is not None:
            mark.check(name, value)
    if get_origin(entry.kind) is Literal and value not in get_args(entry.kind):
        raise InputError(f"{option(name)} is {value!r}; give {' or '.join(map(str, get_args(entry.kind)))}")
    if isinstance(value, (str, Path)):
        _check_text(name, str(value))


def _check_text(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        is_valid = False
    else:
        is_valid = "\0" not in text
    if not is_valid:
        raise InputError(f"{option(name)} is {text!a}; give a text in UTF-8 without zero bytes")
