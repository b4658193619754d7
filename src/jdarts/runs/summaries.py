"""The summary of a run: written as its last file, read back when the finished run is started again."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from jdarts.errors import InputError
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


def read_summary(folder: RunFolder, kind: type[AnyGenotype], made: Callable[[dict[str, Any]], S]) -> S:
    """Reads the summary of a finished run.

    Args:
      folder: the run's folder.
      kind: of which genotypes the run is.
      made: makes a summary of what `write_summary` was given.

    Raises:
      InputError: it is damaged.
    """
    try:
        content: dict[str, Any] = json.loads(folder.summary.read_text(encoding="utf-8"))
        content["genotype"] = parse_genotype(json.dumps(content["genotype"]), kind)
        return made(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder.summary} is damaged ({error}); remove it, and the same command ends the run again"
        ) from None
