"""Settings of runs: their checks, their form on the command line and in a run's `config.json`."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import tyro

from jdarts.errors import InputError

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
    "train_words": None,
}


def option(name: str) -> str:
    """The option of the command line that sets a field."""
    return f"--{name.replace('_', '-')}"


def check_at_least(config: Any, least: Mapping[str, float]) -> None:
    """Raises an `InputError` for a field below its least value; None stands for a default."""
    for name, bound in least.items():
        value = getattr(config, name)
        if value is not None and value < bound:
            raise InputError(f"{option(name)} is {value}; give {bound} or more")


def check_positive(config: Any, names: Iterable[str]) -> None:
    """Raises an `InputError` for a field that is not a finite number above 0."""
    for name in names:
        if not 0 < getattr(config, name) < float("inf"):
            raise InputError(f"{option(name)} is {getattr(config, name)}; give a number above 0")


def check_not_negative(config: Any, names: Iterable[str]) -> None:
    """Raises an `InputError` for a field that is not a finite number of 0 or more."""
    for name in names:
        if not 0 <= getattr(config, name) < float("inf"):
            raise InputError(f"{option(name)} is {getattr(config, name)}; give 0 or more")


def check_below_one(config: Any, names: Iterable[str]) -> None:
    """Raises an `InputError` for a field outside of `0 ≤ value < 1`."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise InputError(f"{option(name)} is {getattr(config, name)}; give a number from 0 to below 1")


def check_seed(config: Any) -> None:
    """Raises an `InputError` for a seed that 32 bits do not hold."""
    check_at_least(config, {"seed": 0})
    if config.seed >= 2**32:
        raise InputError(f"--seed is {config.seed}; give a number below 2^32")


def as_json(config: Any, *, without: Iterable[str] = WITHOUT_EFFECT) -> dict[str, Any]:
    """The fields of a configuration that decide the result, as JSON data."""
    fields = dataclasses.asdict(config)
    for name in without:
        fields.pop(name, None)
    return json.loads(json.dumps(fields))


def genotype_label(genotype: str, published: Collection[str]) -> str:
    """A name for folders: that of a published cell, of a file or a run's folder, or a digest of the text form."""
    if genotype in published:
        return genotype
    if genotype.lstrip().startswith(("{", "Genotype", "RecurrentGenotype")):
        return hashlib.sha256(genotype.encode()).hexdigest()[:8]
    return Path(genotype).resolve().stem
