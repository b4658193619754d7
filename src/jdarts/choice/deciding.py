"""From alphas to decisions."""

from collections.abc import Collection, Mapping

import numpy as np

from jdarts.choice.slots import ChoiceSpec, Decision
from jdarts.choice.tables import NamedAlphas, mixture_for, space_of, tables_of
from jdarts.errors import InputError, shown
from jdarts.methods.mixtures import PAPER
from jdarts.relaxation import Mixture

#: A candidate, the inputs that are kept, or one of these for each layer of an `nn.scan`.
Chosen = str | tuple

#: Decisions by name of choice.
Choices = Mapping[str, Chosen]


def decide(alphas: NamedAlphas, *, mixture: str | Mixture = PAPER, never: Collection[str] = ()) -> dict[str, Chosen]:
    """The strongest candidate of each choice.

    Args:
      alphas: by name, as `split_variables` returns them.
      mixture: how they become weights.
      never: names of candidates that are not chosen, such as `none`, unless a choice has no other.

    Returns:
      By choice the name of its candidate, such as `{"block0": "conv5"}`; a tuple of names where it keeps several inputs; a tuple
      of these for a choice with alphas for each layer of an `nn.scan`.

    Raises:
      InputError: there is no such mixture.
    """
    decisions: dict[str, Chosen] = {}
    strengths = mixture_for(mixture).strengths(tables_of(alphas), space_of(alphas))
    for name, each in alphas.items():
        rows = tuple(strongest(row, each.spec, never) for row in strengths[name])
        decisions[name] = rows if each.values.ndim > 1 else rows[0]
    return decisions


def strongest(strengths: np.ndarray, spec: ChoiceSpec, never: Collection[str] = ()) -> Chosen:
    """The candidate with the largest strength, the first among equals; a tuple in order if several are kept.

    Args:
      strengths: `[O]`.
      spec: the choice.
      never: names that are not chosen.
    """
    allowed = [index for index, name in enumerate(spec.candidates) if name not in never]
    if len(allowed) < spec.keep:
        allowed = list(range(len(spec.candidates)))
    ranked = sorted(allowed, key=lambda index: -strengths[index])
    kept = tuple(spec.candidates[index] for index in sorted(ranked[: spec.keep]))
    return kept if spec.keep > 1 else kept[0]


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
