"""Genotypes from their text and JSON forms, whatever stands around them; nothing is ever evaluated."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, overload

from jdarts.errors import InputError, shortened, shown
from jdarts.genotype.convolutional import Genotype
from jdarts.genotype.recurrent import RecurrentGenotype
from jdarts.genotype.text import (
    LONGEST,
    NotPlain,
    Pasted,
    alias_in,
    arguments_of,
    is_meant,
    pasted_genotypes,
    pasted_in_line,
    plain_text,
)

#: Characters of the calls of one text that are read, and of the names of them in a message.
_MOST_READ, _LONGEST_LIST = 1_000_000, 100

AnyGenotype = Genotype | RecurrentGenotype
G = TypeVar("G", Genotype, RecurrentGenotype)

#: What an error calls each kind of genotype.
_KINDS = {Genotype: "a convolutional cell", RecurrentGenotype: "a recurrent cell"}
_KINDS_BUT = {Genotype: RecurrentGenotype, RecurrentGenotype: Genotype}
_ALL_FIELDS = tuple(field.name for kind in _KINDS for field in dataclasses.fields(kind))


def genotype_from_json(text: str) -> AnyGenotype:
    """Reads the form that `to_json` of either kind of genotype writes.

    Raises:
      InputError: not JSON, or not the JSON of a genotype.
    """
    if len(text) > LONGEST:
        raise InputError(f"genotype: its JSON has {len(text):,} characters; a genotype has at most {LONGEST:,}")
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
        object of `to_json`, or a dictionary of its fields. Other text may stand around it, as in a log or a `genotypes.py`;
        quotes around all of it, NumPy's way of printing numbers and a list for each node are read too.
      kind: the kind of genotype that is wanted, `Genotype` or `RecurrentGenotype`; either where it is not given.
      name: which one is meant where the text holds several: what it is assigned to, or the number of its line.

    Raises:
      InputError: anything else; the message says what was found.
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
        # A text stands for what cannot be read as one: that is said of it.
        read = _from_call(genotype) if isinstance(genotype, str) else genotype
        if read is not None:
            return read
    if text.lstrip().startswith("{"):
        return genotype_from_json(text)
    raise InputError(f"genotype: cannot read {shown(text)}; expected Genotype(normal=[…], …) or a JSON object")


def _named(text: str, name: str) -> list[Pasted]:
    """The genotypes of a name, or those in a line."""
    wanted = name
    for _ in range(3):
        wanted = alias_in(text, wanted) or wanted
    if wanted.isdecimal() and len(wanted) < 10:
        pasted = pasted_in_line(text, int(wanted))
    else:
        pasted = [each for each in pasted_genotypes(text) if each.name == wanted]
    if not pasted:
        raise InputError(f"genotype: there is none with the name or in the line {shown(name)}; give one that is there")
    return pasted


def _distinct(pasted: list[Pasted], kind: type[AnyGenotype] | None) -> dict[AnyGenotype | str, Pasted]:
    """The genotypes of a kind that differ, each where it is first given; those with an error by their text."""
    found: dict[AnyGenotype | str, Pasted] = {}
    texts: dict[str, Pasted] = {}
    for each in pasted:
        if each.text is not None:
            texts.setdefault(each.text, each)
    characters = 0
    for text, each in texts.items():
        characters += len(text)
        if characters > _MOST_READ:
            if len(found) > 1:
                break
            raise InputError(
                f"genotype: the text is too long, with genotypes of more than {_MOST_READ:,} characters; name the one that is "
                "meant by its line, or give it alone"
            )
        try:
            genotype = _from_call(text)
        except InputError:
            genotype = None
        if genotype is None and is_meant(text, _ALL_FIELDS):
            # It is damaged and may be the one that is meant.
            genotype = text
        if genotype is not None and (kind is None or not isinstance(genotype, _KINDS_BUT[kind])):
            found.setdefault(genotype, each)
    return found


def _places(found: Mapping[AnyGenotype | str, Pasted]) -> str:
    """Names of genotypes in a text, or their lines where several have one name."""
    names = [each.name for each in found.values()]
    if None in names or len(set(names)) < len(names):
        names = [str(each.line) for each in found.values()]
        return f"{len(names)} of them, in the lines {_list(names)}"
    return _list([str(name) for name in names])


def _list(names: list[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= _LONGEST_LIST else f"{', '.join(names[:4])[:_LONGEST_LIST]}, …, {names[-1][:40]}"


def _from_call(text: str) -> AnyGenotype | None:
    """The genotype of a call; None where the text is no call."""
    try:
        arguments = arguments_of(text)
    except NotPlain as error:
        known = list(_fields(Genotype))
        field = error.name or (known[error.place] if error.place < len(known) else "a value")
        raise InputError(f"genotype: {field} is {shortened(error.source)!r}; expected a plain list or number") from None
    if arguments is None:
        return None
    function, values, named = arguments
    by_position = len(values) == len(_fields(RecurrentGenotype)) and not named
    recurrent = function == RecurrentGenotype.__name__ or by_position
    kind = RecurrentGenotype if recurrent else _kind_with(dict(named))
    known = _fields(kind)
    if len(values) > len(known):
        raise InputError(f"genotype: {len(values)} values; give {', '.join(known)}")
    return _from_fields(_once_each([*zip(known, values), *named]), kind)


def _fields(kind: type[AnyGenotype]) -> dict[str, bool]:
    """The fields of a genotype in order, and whether each must be given."""
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
