"""Resolves a genotype: the name of a published cell, a text, a file, or the folder of a run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from jdarts import checkpoint, zoo
from jdarts.derivation import check_registered, genotype_of
from jdarts.errors import InputError, did_you_mean
from jdarts.files.places import place_of
from jdarts.genotype import AnyGenotype, Genotype, RecurrentGenotype, parse_genotype
from jdarts.genotype.foreign import is_foreign
from jdarts.genotype.text import is_genotype_text, plain_text

#: The final genotype in a run's folder.
GENOTYPE_FILE = "genotype.json"
#: Bytes of the largest file that is searched for a genotype, such as the log of a long search.
_MAX_FILE_SIZE = 16_000_000
_MAX_QUOTED = 80
_FORMS: Mapping[type[AnyGenotype], str] = {
    Genotype: "Genotype(normal=[…], …)",
    RecurrentGenotype: "Genotype(recurrent=[…], concat=…)",
}

G = TypeVar("G", Genotype, RecurrentGenotype)


def find_genotype(text: str, kind: type[G] = Genotype) -> G:
    """Resolves a genotype.

    Args:
      text: the name of a published cell in `jdarts.zoo`; the text form or the JSON form; a file that holds one of them, as a
        log or a `genotypes.py` does, or `FILE:NAME` and `FILE:LINE` for one of several; or the folder of a search or a
        training, finished or running, or one of its checkpoints.
      kind: of convolutional or of recurrent cells.

    Raises:
      InputError: nothing of this kind, or what is there is not such a genotype.
    """
    return cast(G, _genotype_from(text, published_cells(kind), kind))


def find_any_genotype(text: str) -> AnyGenotype:
    """Resolves a genotype of convolutional or of recurrent cells.

    Args:
      text: as for `find_genotype`; if published cells of both kinds have the name, it is the convolutional one.

    Raises:
      InputError: the text is not a genotype, or nothing is found.
    """
    return _genotype_from(text, {**zoo.RECURRENT_CELLS, **zoo.CELLS}, None)


def _genotype_from(text: str, published: Mapping[str, AnyGenotype], kind: type[AnyGenotype] | None) -> AnyGenotype:
    name = plain_text(text).strip()
    if name in published:
        return published[name]
    place, member = place_of(text)
    if place is not None:
        return _in_folder(place, kind) if place.is_dir() else _in_file(place, kind, member)
    if is_genotype_text(text) or is_foreign(plain_text(text)):
        return parse_genotype(text, kind)
    form = " or ".join(form for each, form in _FORMS.items() if kind in (each, None))
    raise InputError(
        f"no genotype {_quoted(text)}; {did_you_mean(name, published)}Give a published cell ({', '.join(published)}), a file, "
        f"a run's folder, or the text form {form}"
    )


def is_genotype(text: str) -> bool:
    """Whether a text is a genotype, the name of a published one or the path of anything but a run's folder.

    Raises:
      InputError: the file or folder cannot be accessed.
    """
    place, _ = place_of(text)
    if place is not None:
        return not place.is_dir()
    return (
        is_genotype_text(text)
        or is_foreign(plain_text(text))
        or plain_text(text).strip() in {**zoo.CELLS, **zoo.RECURRENT_CELLS}
    )


def is_place(text: str) -> bool:
    """Whether a text is the path of an existing file or folder.

    Raises:
      InputError: the file or folder cannot be accessed.
    """
    return place_of(text)[0] is not None


def published_cells(kind: type[G]) -> Mapping[str, G]:
    """The published cells of a kind, by name."""
    return cast(Mapping[str, G], zoo.CELLS if kind is Genotype else zoo.RECURRENT_CELLS)


def search_record(text: str) -> Any | None:
    """The record of a search, from its run folder or checkpoint; None for anything else.

    Raises:
      InputError: the run's folder has no complete checkpoint.
    """
    record = _run_record(text)
    return record if "space" in record else None


def language_sizes(text: str) -> tuple[dict[str, int], bool] | None:
    """Vocabulary and width of a run on text, from its folder or checkpoint, and whether it is a search.

    None for anything else, and without a complete checkpoint.
    """
    try:
        record = _run_record(text)
    except InputError:
        return None
    network = record.get("network")
    sizes: dict[str, Any] = {}
    if isinstance(network, dict):
        sizes = {name: network.get(name) for name in ("vocabulary", "width")}
    if not sizes or not all(type(size) is int and size > 0 for size in sizes.values()):
        return None
    return sizes, "space" in record


def _run_record(text: str) -> dict[str, Any]:
    """The record of the newest checkpoint of a run; empty if the text is not the folder of a run."""
    place, _ = place_of(text)
    if text in zoo.CELLS or text in zoo.RECURRENT_CELLS or place is None or not place.is_dir():
        return {}
    record = checkpoint.find(place, []).record
    return record if isinstance(record, dict) else {}


def _in_folder(folder: Path, kind: type[AnyGenotype] | None) -> AnyGenotype:
    if (folder / GENOTYPE_FILE).is_file():
        return _in_file(folder / GENOTYPE_FILE, kind, None)
    found = checkpoint.find(folder, [])
    if isinstance(found.record, dict) and "genotype" in found.record:
        check_registered(found.record)
        return parse_genotype(json.dumps(found.record["genotype"]), kind)
    return _of_kind(genotype_of(found.record), found.path, kind)


def _in_file(path: Path, kind: type[AnyGenotype] | None, name: str | None) -> AnyGenotype:
    if not path.is_file():
        raise InputError(f"{path} is neither a file nor a run's folder; give one of them")
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_SIZE + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    if len(content) > _MAX_FILE_SIZE:
        raise InputError(
            f"{path} has more than {_MAX_FILE_SIZE:,} bytes; give a file of the lines that hold the genotype"
        )
    try:
        # A log may hold bytes that are not text; a genotype does not.
        return parse_genotype(content.decode(errors="replace"), kind, name=name)
    except InputError as error:
        more = f"; give {path}:NAME or {path}:LINE" if "name the one that is meant" in str(error) else ""
        raise InputError(f"{path}: {error}{more}") from None


def _of_kind(genotype: AnyGenotype, path: Path, kind: type[AnyGenotype] | None) -> AnyGenotype:
    if kind is not None and not isinstance(genotype, kind):
        raise InputError(
            f"{path}: the cells of this search are a {type(genotype).__name__}; a {kind.__name__} is needed"
        )
    return genotype


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _MAX_QUOTED else f"{text[: _MAX_QUOTED - 1]}…")
