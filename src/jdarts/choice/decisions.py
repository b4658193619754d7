"""Decisions of choices: by names, by indices, and as what stands in the places of the choices."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from jdarts.choice.slots import ChoiceAlphas, ChoiceSpec, Decision
from jdarts.choice.tables import NamedAlphas
from jdarts.errors import InputError, shown

#: A candidate, the inputs that are kept, or one of these for each layer of an `nn.scan`.
Chosen = str | tuple

#: Decisions by name of choice.
Choices = Mapping[str, Chosen]


def strongest(strengths: np.ndarray, spec: ChoiceSpec, never: Collection[str] = ()) -> list[int]:
    """The indices of the candidates with the largest strengths, as many as are kept, in order; the first among equals.

    Args:
      strengths: `[O]`.
      spec: the choice.
      never: names that are not chosen.
    """
    ranked = sorted(allowed_candidates(spec, never), key=lambda index: -strengths[index])
    return sorted(ranked[: spec.keep])


def allowed_candidates(spec: ChoiceSpec, never: Collection[str]) -> list[int]:
    """The indices of the candidates that may be chosen; all, if fewer than are kept would be left."""
    allowed = [index for index, name in enumerate(spec.candidates) if name not in never]
    return allowed if len(allowed) >= spec.keep else list(range(len(spec.candidates)))


def chosen_of(rows: Sequence[Sequence[int]], alphas: ChoiceAlphas) -> Chosen:
    """A decision from the indices of the candidates that are kept, for each layer of an `nn.scan`."""
    names = [tuple(alphas.spec.candidates[index] for index in kept) for kept in rows]
    each = tuple(kept if alphas.spec.keep > 1 else kept[0] for kept in names)
    return each if alphas.values.ndim > 1 else each[0]


def decisions_of(choices: Choices, alphas: NamedAlphas) -> dict[str, Decision]:
    """Checks choices against a network, and makes them what stands in its places.

    Args:
      choices: as `decide` returns them.
      alphas: the choices of the network, or their shapes.

    Raises:
      InputError: a choice is missing or unknown, names something else than its candidates, or differs between the layers of an
        `nn.scan`.
    """
    if unknown := [name for name in choices if name not in alphas]:
        raise InputError(f"the network has no choice {shown(unknown[0])}; it has {', '.join(alphas) or 'none'}")
    return {name: _decision(name, choices, each.spec, layers=each.values.ndim > 1) for name, each in alphas.items()}


def _decision(name: str, choices: Choices, spec: ChoiceSpec, *, layers: bool) -> Decision:
    if name not in choices:
        raise InputError(f"nothing is chosen for {name}; give one of {', '.join(spec.candidates)}")
    chosen = choices[name]
    if layers and isinstance(chosen, tuple):
        if len(set(chosen)) != 1:
            raise InputError(
                f"the layers of {name} choose differently ({shown(', '.join(map(str, chosen)))}), and a scan or vmap runs one "
                "program for all; give variable_broadcast='alphas' to it, choose the same for all, or write the layers as a loop"
            )
        chosen = chosen[0]
    names = chosen if isinstance(chosen, tuple) else (chosen,)
    if len(names) != spec.keep or len(set(names)) != len(names) or not set(names) <= set(spec.candidates):
        count = "one" if spec.keep == 1 else f"{spec.keep}"
        raise InputError(f"{name} is {shown(chosen)}; give {count} of {', '.join(spec.candidates)}")
    return Decision(names)
