"""The penalty on the expected cost of a search's mixture, and its multipliers, which are raised until the derived network keeps
the bounds.

The alphas minimise L_val + Σ multiplier × (expected cost / bound). Once an epoch each multiplier grows by the share by which the
cells that the alphas alone would derive exceed their bound, and falls by the share that they leave; it never falls below 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.bilevel import HypergradientFn
from jdarts.budget.cost import Limit
from jdarts.budget.expected import expected_cost
from jdarts.genotype import Genotype
from jdarts.methods.penalties import with_penalty
from jdarts.relaxation import NO_CONTROLS, Alphas, Controls, Mixture
from jdarts.space import SearchSpace

#: Multipliers by measure, float32 `[]` each.
Multipliers = Mapping[str, Any]


def first_multipliers(limits: Sequence[Limit]) -> dict[str, jax.Array]:
    """The multipliers at the start of a search, all 0."""
    return {limit.cost.measure: jnp.zeros((), jnp.float32) for limit in limits}


def cost_penalised(
    hypergradient: HypergradientFn,
    limits: Sequence[Limit],
    multipliers: Multipliers,
    mixture: Mixture,
    space: SearchSpace,
    edges_per_node: int,
    controls: Controls = NO_CONTROLS,
) -> HypergradientFn:
    """An estimator with the penalty on expected costs beside the validation loss; with no bounds it is the estimator itself.

    Args:
      hypergradient: the estimator of the validation loss.
      limits: the bounds; the penalty of each is the metric `hypergradient/penalty_MEASURE`, with its multiplier.
      multipliers: of the bounds.
      mixture: how the alphas become weights; the penalty sees its mean.
      space: the search space.
      edges_per_node: edges that derivation keeps for each node.
      controls: numbers of the epoch, for the mixture.
    """
    for limit in limits:

        def penalty(alphas: Alphas, limit: Limit = limit) -> jax.Array:
            weights = mixture.weights(alphas, space, None, controls)
            share = expected_cost(limit.cost, weights, space, edges_per_node) / limit.most
            return multipliers[limit.cost.measure].astype(share.dtype) * share

        hypergradient = with_penalty(hypergradient, limit.cost.measure, penalty)
    return hypergradient


def next_multipliers(
    multipliers: Multipliers, limits: Sequence[Limit], free: Genotype, space: SearchSpace, rate: float
) -> dict[str, np.floating]:
    """The multipliers after an epoch.

    Args:
      multipliers: those of the epoch.
      limits: the bounds.
      free: the cells that the alphas derive without bounds.
      space: the search space.
      rate: how much a multiplier grows where those cells cost twice as much as the bound.
    """
    return {
        limit.cost.measure: np.float32(
            max(0.0, float(multipliers[limit.cost.measure]) + rate * (limit.cost.of(free, space) / limit.most - 1))
        )
        for limit in limits
    }
