"""Genotypes from their text and JSON forms, within any other text; nothing is ever evaluated."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, overload

from jdarts.errors import InputError, shortened, shown
from jdarts.genotype.convolutional import Genotype
from jdarts.genotype.foreign import foreign_genotype
from jdarts.genotype.recurrent import RecurrentGenotype
from jdarts.genotype.text import (
    MAX_CHARACTERS,
    NotPlain,
    Pasted,
    alias_target,
    arguments_of,
    has_genotype_syntax,
    pasted_genotypes,
    pasted_in_line,
    plain_text,
)

#: The most characters: of all calls that are read from one text, and of their names in a message.
_MAX_READ, _MAX_LIST = 1_000_000, 100

AnyGenotype = Genotype | RecurrentGenotype
G = TypeVar("G", Genotype, RecurrentGenotype)

#: The name of each kind of genotype in messages.
_KINDS = {Genotype: "a convolutional cell", RecurrentGenotype: "a recurrent cell"}
_OTHER_KINDS = {Genotype: RecurrentGenotype, RecurrentGenotype: Genotype}
_ALL_FIELDS = tuple(field.name for kind in _KINDS for field in dataclasses.fields(kind))


def genotype_from_json(text: str) -> AnyGenotype:
    """Reads the form that `to_json` of either kind of genotype writes.

    Raises:
      InputError: not JSON, or not the JSON of a genotype.
    """
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"genotype: its JSON has {len(text):,} characters; a genotype has at most {MAX_CHARACTERS:,}")
    try:
        fields = json.loads(text, object_pairs_hook=_once_each)
    except json.JSONDecodeError as error:
        raise InputError(f"genotype: not valid JSON ({error})") from None
    except InputError:
        raise
    except (ValueError, RecursionError):
        raise InputError("genotype: not valid JSON (nested too deep, or a number too long)") from None
    if not isinstance(fields, Mapping):
        raise InputError(f"genotype: expected an object with {', '.join(_fields(Genotype))}; found {shown(fields)}")
    return _from_fields(fields, _kind_with(fields))


@overload
def parse_genotype(text: str, *, name: str | None = None) -> AnyGenotype: ...
@overload
def parse_genotype(text: str, kind: type[G], *, name: str | None = None) -> G: ...
@overload
def parse_genotype(text: str, kind: type[AnyGenotype] | None, *, name: str | None = None) -> AnyGenotype: ...
def parse_genotype(text: str, kind: type[AnyGenotype] | None = None, *, name: str | None = None) -> AnyGenotype:
    """Reads a genotype from its text form or its JSON form, without ever evaluating it.

    Args:
      text: `Genotype(normal=[('sep_conv_3x3', 0), …], normal_concat=range(2, 6), reduce=…, reduce_concat=…)` or
        `Genotype(recurrent=[('tanh', 0), …], concat=range(1, 9))`, as the reference implementation prints them, or the JSON
        object of `to_json`, or a dictionary of its fields. Other text may surround it, as in a log or a `genotypes.py`;
        quotes around all of it, numbers as NumPy prints them, a list for each node and GDAS's edges with a weight are read too,
        and the forms of `foreign_genotype`.
      kind: the expected kind, `Genotype` or `RecurrentGenotype`; by default either.
      name: selects one of several in the text: the name that it is assigned to, or the number of its line.

    Raises:
      InputError: the text holds no such genotype; the message says what it holds.
    """
    plain = plain_text(text)
    genotype = _from_text(plain, kind, name)
    if kind is not None and not isinstance(genotype, kind):
        raise InputError(f"genotype: {_KINDS[type(genotype)]} is given; {_KINDS[kind]} is needed here")
    return genotype


def _from_text(text: str, kind: type[AnyGenotype] | None, name: str | None) -> AnyGenotype:
    pasted = list(pasted_genotypes(text)) if name is None else _named(text, name)
    if len(pasted) == 1 and (name is not None or pasted[0].text == text.strip()) and pasted[0].text is not None:
        genotype = _from_call(pasted[0].text)
        if genotype is not None:
            return genotype
    cut_off = [each for each in pasted if each.text is None]
    if cut_off:
        mend = "name the one that is meant, or give it alone" if len(pasted) > 1 else "give all of it"
        raise InputError(f"genotype: the one in line {cut_off[0].line} is cut off; {mend}")
    found = _distinct(pasted, kind)
    if len(found) > 1:
        raise InputError(f"genotype: several are given, {_places(found)}; name the one that is meant")
    for genotype in found:
        # A text is a genotype with an error, which is raised here.
        read = _from_call(genotype) if isinstance(genotype, str) else genotype
        if read is not None:
            return read
    if name is None and (genotype := foreign_genotype(text)) is not None:
        return genotype
    if text.lstrip().startswith("{"):
        return genotype_from_json(text)
    raise InputError(f"genotype: cannot read {shown(text)}; expected Genotype(normal=[…], …) or a JSON object")


def _named(text: str, name: str) -> list[Pasted]:
    """The genotypes with a name, or those in a line."""
    requested = name
    for _ in range(3):
        requested = alias_target(text, requested) or requested
    if requested.isdecimal() and len(requested) < 10:
        pasted = pasted_in_line(text, int(requested))
    else:
        pasted = [each for each in pasted_genotypes(text) if each.name == requested]
    if not pasted:
        raise InputError(f"genotype: there is none with the name or in the line {shown(name)}; give one that is there")
    return pasted


def _distinct(pasted: list[Pasted], kind: type[AnyGenotype] | None) -> dict[AnyGenotype | str, Pasted]:
    """The different genotypes of a kind, each at its first place; those with an error as their text."""
    found: dict[AnyGenotype | str, Pasted] = {}
    texts: dict[str, Pasted] = {}
    for each in pasted:
        if each.text is not None:
            texts.setdefault(each.text, each)
    characters = 0
    for text, each in texts.items():
        characters += len(text)
        if characters > _MAX_READ:
            if len(found) > 1:
                break
            raise InputError(
                f"genotype: the text is too long, with genotypes of more than {_MAX_READ:,} characters; name the one that is "
                "meant by its line, or give it alone"
            )
        try:
            genotype = _from_call(text)
        except InputError:
            genotype = None
        if genotype is None and has_genotype_syntax(text, _ALL_FIELDS):
            # It is damaged, and may be the one that the person means.
            genotype = text
        if genotype is not None and (kind is None or not isinstance(genotype, _OTHER_KINDS[kind])):
            found.setdefault(genotype, each)
    return found


def _places(found: Mapping[AnyGenotype | str, Pasted]) -> str:
    """Names of genotypes in a text, or their lines if several have one name."""
    names = [each.name for each in found.values()]
    if None in names or len(set(names)) < len(names):
        names = [str(each.line) for each in found.values()]
        return f"{len(names)} of them, in the lines {_list(names)}"
    return _list([str(name) for name in names])


def _list(names: list[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= _MAX_LIST else f"{', '.join(names[:4])[:_MAX_LIST]}, …, {names[-1][:40]}"


def _from_call(text: str) -> AnyGenotype | None:
    """The genotype of a call; None if the text is not a call."""
    try:
        arguments = arguments_of(text)
    except NotPlain as error:
        known = list(_fields(Genotype))
        field = error.name or (known[error.place] if error.place < len(known) else "a value")
        raise InputError(f"genotype: {field} is {shortened(error.source)!r}; expected a plain list or number") from None
    if arguments is None:
        return None
    function, values, by_name = arguments
    by_position = len(values) == len(_fields(RecurrentGenotype)) and not by_name
    recurrent = function == RecurrentGenotype.__name__ or by_position
    kind = RecurrentGenotype if recurrent else _kind_with(dict(by_name))
    known = _fields(kind)
    if len(values) > len(known):
        raise InputError(f"genotype: {len(values)} values; give {', '.join(known)}")
    return _from_fields(_once_each([*zip(known, values), *by_name]), kind)


def _fields(kind: type[AnyGenotype]) -> dict[str, bool]:
    """The fields of a genotype in order, and whether each is required."""
    return {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(kind)}


def _kind_with(names: Iterable[str]) -> type[AnyGenotype]:
    names = set(names)
    recurrent = names & set(_fields(RecurrentGenotype)) and not names & set(_fields(Genotype))
    return RecurrentGenotype if recurrent else Genotype


def _from_fields(fields: Mapping[str, Any], kind: type[AnyGenotype]) -> AnyGenotype:
    known = _fields(kind)
    unknown = [name for name in fields if name not in known]
    if unknown:
        raise InputError(f"genotype: unknown field {shown(unknown[0])}; known are {', '.join(known)}")
    missing = [name for name, required in known.items() if required and name not in fields]
    if missing:
        raise InputError(f"genotype: {', '.join(missing)} missing; give every field")
    return kind(**fields)


def _once_each(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise InputError(f"genotype: field {shown(name)} appears twice; give it once")
        fields[name] = value
    return fields
