"""The penalty on the expected cost of a search's mixture, and its multipliers, which are raised until the derived network keeps
the bounds.

The alphas minimise L_val + Σ multiplier × (expected cost / bound). Once an epoch each multiplier grows by the share by which the
network that the alphas alone would derive exceeds its bound, and falls by the share that it leaves; it never falls below 0.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.bilevel import HypergradientFn
from jdarts.budget.cost import Measure
from jdarts.methods.penalties import with_penalty
from jdarts.relaxation import NO_CONTROLS, Alphas, Controls, Mixture, MixtureWeights, Space

#: Multipliers by measure, float32 `[]` each.
Multipliers = Mapping[str, Any]


class CostPenalty(NamedTuple):
    """The penalty on one expected cost.

    Attributes:
      measure: what costs.
      most: the bound.
      expected: from the weights of a mixture to the expected cost, a scalar.
    """

    measure: Measure
    most: int
    expected: Callable[[MixtureWeights], jax.Array]


def first_multipliers(penalties: Sequence[CostPenalty]) -> dict[str, jax.Array]:
    """The multipliers at the start of a search, all 0."""
    return {each.measure: jnp.zeros((), jnp.float32) for each in penalties}


def cost_penalised(
    hypergradient: HypergradientFn,
    penalties: Sequence[CostPenalty],
    multipliers: Multipliers,
    mixture: Mixture,
    space: Space,
    controls: Controls = NO_CONTROLS,
) -> HypergradientFn:
    """An estimator with the penalties on expected costs beside the validation loss; with none it is the estimator itself.

    Args:
      hypergradient: the estimator of the validation loss.
      penalties: each is the metric `hypergradient/penalty_MEASURE`, with its multiplier.
      multipliers: of the penalties.
      mixture: how the alphas become weights; the penalty sees its mean.
      space: the search space.
      controls: numbers of the epoch, for the mixture.
    """
    for each in penalties:

        def penalty(alphas: Alphas, each: CostPenalty = each) -> jax.Array:
            share = each.expected(mixture.weights(alphas, space, None, controls)) / each.most
            return multipliers[each.measure].astype(share.dtype) * share

        hypergradient = with_penalty(hypergradient, each.measure, penalty)
    return hypergradient


def next_multipliers(multipliers: Multipliers, shares: Mapping[Measure, float], rate: float) -> dict[str, np.floating]:
    """The multipliers after an epoch.

    Args:
      multipliers: those of the epoch.
      shares: by measure the cost of what the alphas derive without bounds, as a share of its bound.
      rate: how much a multiplier grows where it costs twice as much as the bound.
    """
    return {
        measure: np.float32(max(0.0, float(multipliers[measure]) + rate * (share - 1)))
        for measure, share in shares.items()
    }
