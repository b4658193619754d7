"""Where a genotype is found: by the name of a published cell, as text, in a file, or in the folder of a run."""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from jdarts import checkpoint, zoo
from jdarts.derive import genotype_of
from jdarts.errors import InputError
from jdarts.genotype import AnyGenotype, Genotype, RecurrentGenotype, parse_genotype

#: The final genotype in a run's folder.
GENOTYPE_FILE = "genotype.json"
_LARGEST_FILE = 1_000_000
_FORMS: Mapping[type[AnyGenotype], str] = {
    Genotype: "Genotype(normal=[…], …)",
    RecurrentGenotype: "Genotype(recurrent=[…], concat=…)",
}

G = TypeVar("G", Genotype, RecurrentGenotype)


def find_genotype(text: str, kind: type[G] = Genotype) -> G:
    """The genotype that a person means.

    Args:
      text: the name of a published cell in `jdarts.zoo`; the text form or the JSON form; a file that holds one of them; or
        the folder of a search or a training, finished or running, or one of its checkpoints.
      kind: of convolutional or of recurrent cells.

    Raises:
      InputError: nothing of this kind, or what is there is not such a genotype.
    """
    return cast(G, _found(text, published_cells(kind), kind))


def find_any_genotype(text: str) -> AnyGenotype:
    """The genotype that a person means, of convolutional or of recurrent cells.

    Args:
      text: as for `find_genotype`; a name that published cells of both kinds have means the convolutional one.

    Raises:
      InputError: there is nothing, or what is there is no genotype.
    """
    return _found(text, {**zoo.RECURRENT_CELLS, **zoo.CELLS}, None)


def _found(text: str, published: Mapping[str, AnyGenotype], kind: type[AnyGenotype] | None) -> AnyGenotype:
    if text in published:
        return published[text]
    if is_text_form(text):
        return parse_genotype(text, kind)
    path = Path(text)
    try:
        if path.is_dir():
            return _in_folder(path, kind)
        if path.exists():
            return _in_file(path, kind)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    near = difflib.get_close_matches(text, published, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    form = " or ".join(form for each, form in _FORMS.items() if kind in (each, None))
    raise InputError(
        f"no genotype {_shown(text)}; {guess}Give a published cell ({', '.join(published)}), a file, a run's folder, or "
        f"the text form {form}"
    )


def published_cells(kind: type[G]) -> Mapping[str, G]:
    """The published cells of a kind, by name."""
    return cast(Mapping[str, G], zoo.CELLS if kind is Genotype else zoo.RECURRENT_CELLS)


def is_text_form(text: str) -> bool:
    """Whether this is meant as a genotype itself, not as a name or a place."""
    return text.lstrip().startswith(("{", "Genotype", "RecurrentGenotype"))


def search_record(text: str) -> Any | None:
    """The record of the search whose run folder or checkpoint this is; None for anything else.

    Raises:
      InputError: a folder of a run without a whole checkpoint.
    """
    record = _run_record(text)
    return record if "space" in record else None


def language_sizes(text: str) -> tuple[dict[str, int], bool] | None:
    """Vocabulary and width of the run on text whose folder or checkpoint this is, and whether that is a search.

    None for anything else, and where no whole checkpoint tells.
    """
    try:
        record = _run_record(text)
    except InputError:
        return None
    sizes = record.get("network")
    if not isinstance(sizes, dict) or not {"vocabulary", "width"} <= set(sizes):
        return None
    return {"vocabulary": sizes["vocabulary"], "width": sizes["width"]}, "space" in record


def _run_record(text: str) -> dict[str, Any]:
    """The record of the newest checkpoint of a run; empty where this is no folder of a run."""
    if text in zoo.CELLS or text in zoo.RECURRENT_CELLS or is_text_form(text) or not Path(text).is_dir():
        return {}
    record = checkpoint.find(Path(text), []).record
    return record if isinstance(record, dict) else {}


def _in_folder(folder: Path, kind: type[AnyGenotype] | None) -> AnyGenotype:
    if (folder / GENOTYPE_FILE).is_file():
        return _in_file(folder / GENOTYPE_FILE, kind)
    found = checkpoint.find(folder, [])
    if isinstance(found.record, dict) and "genotype" in found.record:
        return parse_genotype(json.dumps(found.record["genotype"]), kind)
    return _of_kind(genotype_of(found.record), found.path, kind)


def _in_file(path: Path, kind: type[AnyGenotype] | None) -> AnyGenotype:
    with path.open(encoding="utf-8") as file:
        text = file.read(_LARGEST_FILE)
    try:
        return parse_genotype(text, kind)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _of_kind(genotype: AnyGenotype, path: Path, kind: type[AnyGenotype] | None) -> AnyGenotype:
    if kind is not None and not isinstance(genotype, kind):
        raise InputError(
            f"{path}: the cells of this search are a {type(genotype).__name__}; a {kind.__name__} is needed"
        )
    return genotype


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")
