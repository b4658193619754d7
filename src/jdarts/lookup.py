"""Where a genotype is found: by the name of a published cell, as text, in a file, or in the folder of a run."""

import difflib
import json
from pathlib import Path
from typing import Any

from jdarts import checkpoint, zoo
from jdarts.derive import genotype_of
from jdarts.errors import InputError
from jdarts.genotype import Genotype, parse_genotype

#: The final genotype in a run's folder.
GENOTYPE_FILE = "genotype.json"
_LARGEST_FILE = 1_000_000


def find_genotype(text: str) -> Genotype:
    """The genotype that a person means.

    Args:
      text: the name of a published cell in `jdarts.zoo`; the text form or the JSON form; a file that holds one of them; or
        the folder of a search or a training, finished or running, or one of its checkpoints.

    Raises:
      InputError: nothing of this kind, or what is there is not a genotype.
    """
    if text in zoo.CELLS:
        return zoo.CELLS[text]
    if is_text_form(text):
        return parse_genotype(text)
    path = Path(text)
    try:
        if path.is_dir():
            return _in_folder(path)
        if path.exists():
            return _in_file(path)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read {_shown(text)}: {getattr(error, 'strerror', None) or error}") from None
    near = difflib.get_close_matches(text, zoo.CELLS, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    raise InputError(
        f"no genotype {_shown(text)}; {guess}Give a published cell ({', '.join(zoo.CELLS)}), a file, a run's folder, or "
        "the text form Genotype(normal=[…], …)"
    )


def is_text_form(text: str) -> bool:
    """Whether this is meant as a genotype itself, not as a name or a place."""
    return text.lstrip().startswith(("{", "Genotype"))


def search_record(text: str) -> Any | None:
    """The record of the search whose run folder or checkpoint this is; None for anything else.

    Raises:
      InputError: a folder of a run without a whole checkpoint.
    """
    if text in zoo.CELLS or is_text_form(text) or not Path(text).is_dir():
        return None
    record = checkpoint.find(Path(text), []).record
    return record if isinstance(record, dict) and "space" in record else None


def _in_folder(folder: Path) -> Genotype:
    if (folder / GENOTYPE_FILE).is_file():
        return _in_file(folder / GENOTYPE_FILE)
    record = checkpoint.find(folder, []).record
    if isinstance(record, dict) and "genotype" in record:
        return parse_genotype(json.dumps(record["genotype"]))
    return genotype_of(record)


def _in_file(path: Path) -> Genotype:
    with path.open(encoding="utf-8") as file:
        text = file.read(_LARGEST_FILE)
    try:
        return parse_genotype(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")
