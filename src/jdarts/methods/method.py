"""A search method as a value: what it puts into the plug-in points of a search."""

import dataclasses
from collections.abc import Mapping

from jdarts.errors import InputError, shown
from jdarts.methods.mixtures import MIXTURES
from jdarts.methods.penalties import PENALTIES, Penalty
from jdarts.relaxation import Mixture

DARTS = "darts"
_JOINT = "+"


@dataclasses.dataclass(frozen=True)
class Method:
    """A search method. What it does not name is DARTS's.

    Attributes:
      name: part of a run's identity.
      mixture: how alphas become weights of the operations, and how operations rank when cells are derived.
      penalties: terms of the alphas' loss, by name.
    """

    name: str = DARTS
    mixture: Mixture = MIXTURES[DARTS]
    penalties: Mapping[str, Penalty] = dataclasses.field(default_factory=dict, hash=False)


def method_by_name(name: object) -> Method:
    """The method with a name: a mixture, then penalties, joined by `+` as in `darts+PENALTY`.

    Raises:
      InputError: there is no such mixture or penalty, or one is named twice.
    """
    parts = name.split(_JOINT) if isinstance(name, str) else []
    mixture, *penalties = parts or [""]
    known = set(penalties) <= set(PENALTIES) and len(set(penalties)) == len(penalties)
    if mixture not in MIXTURES or not known:
        added = f", and {' or '.join(PENALTIES)} after a {_JOINT}" if PENALTIES else ""
        raise InputError(f"method is {shown(name)}; give {' or '.join(MIXTURES)}{added}")
    return Method(_JOINT.join(parts), MIXTURES[mixture], {each: PENALTIES[each] for each in penalties})


def method_fields(method: Method) -> dict[str, str]:
    """The fields of a checkpoint's record that name a method; none for DARTS."""
    return {} if method.name == DARTS else {"method": method.name}
