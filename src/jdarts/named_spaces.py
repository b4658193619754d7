"""Convolutional search spaces by name or from a JSON file."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jdarts.errors import InputError, did_you_mean, shortened, shown
from jdarts.files.json_data import parse_json
from jdarts.files.places import place_of
from jdarts.operations import NONE
from jdarts.space import SearchSpace, darts_space, uniform_space

#: The paper's space.
DARTS = "darts"
_LARGEST_FILE = 1_000_000
_FIELDS = tuple(field.name for field in dataclasses.fields(SearchSpace))
_SKIP, _MAX, _AVERAGE, _NOISE = "skip_connect", "max_pool_3x3", "avg_pool_3x3", "noise"
_SEPARABLE, _DILATED_3, _DILATED_5 = "sep_conv_3x3", "dil_conv_3x3", "dil_conv_5x5"


def _s1() -> SearchSpace:
    """The two strongest operations of each edge in a search of the whole space (RobustDARTS)."""
    skip_3, skip_5, skip_separable = (_SKIP, _DILATED_3), (_SKIP, _DILATED_5), (_SKIP, _SEPARABLE)
    pools, dilated = (_MAX, _AVERAGE), (_DILATED_3, _DILATED_5)
    normal = [
        [skip_3, skip_5],
        [skip_5, skip_separable, skip_3],
        [(_MAX, _SKIP), skip_separable, skip_separable, skip_3],
        [skip_separable, (_MAX, _SKIP), skip_3, dilated, dilated],
    ]
    reduce = [
        [pools, (_MAX, _DILATED_3)],
        [pools, pools, skip_5],
        [pools, (_MAX, _SEPARABLE), skip_3, skip_5],
        [pools, pools, skip_5, skip_5, skip_5],
    ]
    of_normal, of_reduce = (tuple(edge for node in cell for edge in node) for cell in (normal, reduce))
    return SearchSpace(of_normal, of_reduce)


#: Functions that make published spaces, by name; s1 to s4 are RobustDARTS's (Zela et al., 2020).
SPACES = {
    DARTS: darts_space,
    "s1": _s1,
    "s2": lambda: uniform_space((_SKIP, _SEPARABLE)),
    "s3": lambda: uniform_space((NONE, _SKIP, _SEPARABLE)),
    "s4": lambda: uniform_space((_NOISE, _SEPARABLE)),
}


def find_space(text: str) -> SearchSpace:
    """Resolves a search space.

    Args:
      text: a published space, or a JSON file with the fields of `SearchSpace`: `{"normal": [["skip_connect", "sep_conv_3x3"], …],
        "reduce": […], "concat": [2, 3, 4, 5]}`, where each list of `normal` and `reduce` has the operations of one edge and
        `concat` may be missing. `FILE:NAME` is one of several such objects in a file.

    Raises:
      InputError: there is no such space or file, or it holds another thing.
    """
    if text in SPACES:
        return SPACES[text]()
    path, member = place_of(text)
    if path is None:
        raise InputError(
            f"--space is {shortened(text)}; {did_you_mean(text.lower(), SPACES)}give one of {', '.join(SPACES)}, or a JSON file "
            "with the operations of each edge"
        )
    content = _read(path)
    if member is not None:
        if member not in content:
            raise InputError(
                f"{path} has no space {shortened(member)}; it has {', '.join(_spaces_in(content)) or 'none'}"
            )
        content = content[member]
    return _space_of(f"{path}:{member}" if member else str(path), content)


def recorded_space(text: str) -> str:
    """A space as the folder of a run records it: a published one's name, or a checksum.

    Raises:
      InputError: as for `find_space`.
    """
    if text in SPACES:
        return text
    content = json.dumps(dataclasses.asdict(find_space(text)), sort_keys=True)
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"cannot read --space {path}: {error.strerror or error}") from None
    try:
        content = parse_json(text) if len(text) <= _LARGEST_FILE else None
    except ValueError as error:
        raise InputError(f"--space {path} is not JSON ({shortened(str(error))}); {_EXPECTED}") from None
    if not isinstance(content, dict):
        raise InputError(f"--space {path} is not a JSON object; {_EXPECTED}")
    return content


_EXPECTED = 'give {"normal": [[operations of an edge], …], "reduce": […]}'


def _spaces_in(content: Mapping[str, Any]) -> list[str]:
    return [name for name, value in content.items() if isinstance(value, dict) and "normal" in value]


def _space_of(place: str, content: Any) -> SearchSpace:
    if not isinstance(content, dict) or not {"normal", "reduce"} <= {*content}:
        inner = _spaces_in(content) if isinstance(content, dict) else []
        mend = f"give {place}:NAME with a name of {', '.join(inner)}" if inner else _EXPECTED
        raise InputError(f"--space {place} has no normal and reduce; {mend}")
    unknown = [name for name in content if name not in _FIELDS and not name.startswith("_")]
    if unknown:
        raise InputError(f"--space {place} has the field {shown(unknown[0])}; known are {', '.join(_FIELDS)}")
    for kind in ("normal", "reduce"):
        edges = content[kind]
        if not isinstance(edges, list) or not all(isinstance(edge, list) for edge in edges):
            raise InputError(
                f"--space {place}: {kind} is {shown(edges)}; give a list of the operations of each edge, such as "
                '[["skip_connect", "sep_conv_3x3"], …]'
            )
        names = [name for edge in edges for name in edge]
        if not all(isinstance(name, str) for name in names):
            wrong = next(name for name in names if not isinstance(name, str))
            raise InputError(f"--space {place}: {kind} names the operation {shown(wrong)}; give texts")
    concat = content.get("concat", [])
    if not isinstance(concat, list):
        raise InputError(f"--space {place}: concat is {shown(concat)}; give a list of states")
    try:
        return SearchSpace(content["normal"], content["reduce"], tuple(concat))
    except InputError as error:
        raise InputError(f"--space {place}: {str(error).removeprefix('search space: ')}") from None
