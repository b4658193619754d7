"""From alphas to decisions."""

from collections.abc import Collection, Sequence

import numpy as np

from jdarts.choice.bounded import bounded_choices, check_costs, keeps
from jdarts.choice.cost import ChoiceCost, choice_limits
from jdarts.choice.decisions import Chosen, chosen_of, strongest
from jdarts.choice.tables import NamedAlphas, mixture_for, space_of, tables_of
from jdarts.errors import InputError
from jdarts.methods.mixtures import PAPER
from jdarts.relaxation import Mixture


def decide(
    alphas: NamedAlphas,
    *,
    mixture: str | Mixture = PAPER,
    never: str | Collection[str] = (),
    limits: Sequence[tuple[ChoiceCost, int | str]] = (),
) -> dict[str, Chosen]:
    """The strongest candidate of each choice; within bounds, the candidates with the largest sum of strengths that keep them.

    Args:
      alphas: by name, as `split_variables` returns them.
      mixture: how they become weights.
      never: the name of a candidate that is not chosen, such as `none`, unless a choice has no other; or several names.
      limits: bounds on the decided network, which are kept to the unit: pairs of a cost, as `jdarts.choice_costs` returns them,
        and the most of it, such as `(costs["weights"], "50k")`. The strengths of all choices count in the sum, even of those
        inside candidates that are not chosen.

    Returns:
      By choice the name of its candidate, such as `{"block0": "conv5"}`; a tuple of names where it keeps several inputs; a tuple
      of these for a choice with alphas for each layer of an `nn.scan`.

    Raises:
      InputError: there is no such mixture, an alpha is not finite, no choices keep the bounds, or the costs are those of another
        network.
    """
    space = space_of(alphas)
    never = (never,) if isinstance(never, str) else never
    for name, each in alphas.items():
        if not np.isfinite(np.asarray(each.values)).all():
            raise InputError(f"the alphas of {name} are not all finite; use those of an earlier step of the search")
    strengths = mixture_for(mixture).strengths(tables_of(alphas), space)
    decisions = {
        name: chosen_of([strongest(row, each.spec, never) for row in strengths[name]], each)
        for name, each in alphas.items()
    }
    if not limits:
        return decisions
    bounds = choice_limits(limits)
    check_costs(bounds, alphas)
    return decisions if keeps(decisions, bounds) else bounded_choices(strengths, alphas, bounds, never)
