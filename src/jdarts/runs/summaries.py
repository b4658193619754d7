"""The summary of a run: written as its last file, read back when the finished run is started again."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from jdarts.errors import InputError
from jdarts.files.json_data import Fields, parse_json
from jdarts.genotype import AnyGenotype, parse_genotype
from jdarts.runs.folder import SUMMARY, RunFolder

S = TypeVar("S")


def write_summary(folder: RunFolder, content: Mapping[str, Any]) -> None:
    """Writes the summary, which ends the run.

    Args:
      folder: the run's folder.
      content: JSON data by name, and under `genotype` a genotype.

    Raises:
      InputError: the folder cannot be written, or the disk is full.
    """
    fields = {**content, "genotype": json.loads(content["genotype"].to_json())}
    folder.write(SUMMARY, json.dumps(fields, indent=1) + "\n")


def read_summary(folder: RunFolder, kind: type[AnyGenotype], made: Callable[[Fields, Any], S]) -> S:
    """Reads the summary of a finished run.

    Args:
      folder: the run's folder.
      kind: of which genotypes the run is.
      made: makes a summary of what `write_summary` was given, and of the genotype in it.

    Raises:
      InputError: it cannot be read, or is damaged.
    """
    try:
        content = folder.summary.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {folder.summary}: {error.strerror or error}; make it readable and start the same command again"
        ) from None
    try:
        fields = Fields(parse_json(content))
        return made(fields, parse_genotype(json.dumps(fields.get("genotype")), kind))
    except ValueError as error:
        raise InputError(
            f"{folder.summary} is damaged ({error}); remove it, and the same command ends the run again"
        ) from None
