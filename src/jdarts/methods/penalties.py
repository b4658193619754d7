"""What a method adds to the alphas' loss: one row for each penalty.

A penalty is a pure function `(alphas, weights {kind: [E, O]}, space) -> scalar`. It is part of the validation loss in the step of
the alphas alone, and depends on nothing but the alphas: its gradient is added to the hypergradient, whatever the estimator is.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.bilevel import Estimate, HypergradientFn, Problem
from jdarts.methods.mixtures import concentrations, operation_alphas
from jdarts.relaxation import NO_CONTROLS, Alphas, Controls, Mixture, Space, candidate_mask, map_tables, operations_of

PenaltyFn = Callable[[Alphas, Mapping[str, jax.Array], Space], jax.Array]


class Penalty(NamedTuple):
    """A penalty on the alphas.

    Attributes:
      function: `(alphas, weights {kind: [E, O]}, space) -> scalar`.
      weight: its usual factor.
      mixture: the mixture whose alphas it reads; None for any.
    """

    function: PenaltyFn
    weight: float
    mixture: str | None = None


def _candidates(weights: Mapping[str, jax.Array], space: Space) -> jax.Array:
    """The weights of all candidates of all kinds of cells, `[all]`."""
    operations = operations_of(space)
    return jnp.concatenate([table[candidate_mask(operations[kind])] for kind, table in weights.items()])


def zero_one(alphas: Alphas, weights: Mapping[str, jax.Array], space: Space) -> jax.Array:
    """Draws weights away from 0.5: `−mean((weight − 0.5)²)` over all cells (FairDARTS; Chu et al. 2020, equation 6)."""
    del alphas
    return -jnp.mean(jnp.square(_candidates(weights, space) - 0.5))


def zero_one_absolute(alphas: Alphas, weights: Mapping[str, jax.Array], space: Space) -> jax.Array:
    """As `zero_one` with absolute values, `−mean(|weight − 0.5|)`."""
    del alphas
    return -jnp.mean(jnp.abs(_candidates(weights, space) - 0.5))


def divergences(alphas: Alphas, space: Space) -> dict[str, jax.Array]:
    """The Kullback-Leibler divergences of the Dirichlet distributions of DrNAS from the uniform one (Chen et al. 2021).

    Args:
      alphas: tables, as `init_alphas` makes them.
      space: the search space.

    Returns:
      `{kind: [E]}`, in nats.
    """

    def divergence(table: jax.Array, mask: np.ndarray) -> jax.Array:
        gamma, digamma = jax.scipy.special.gammaln, jax.scipy.special.digamma
        total = jnp.sum(jnp.where(mask, table, 0), axis=-1)
        terms = (table - 1) * (digamma(table) - digamma(total)[:, None]) - gamma(table)
        counts = jnp.asarray(np.sum(mask, axis=-1), table.dtype)
        return gamma(total) - gamma(counts) + jnp.sum(jnp.where(mask, terms, 0), axis=-1)

    return map_tables(divergence, concentrations(alphas, space), space)


def divergence(alphas: Alphas, weights: Mapping[str, jax.Array], space: Space) -> jax.Array:
    """The sum of `divergences` over all edges of all kinds of cells."""
    del weights
    return sum((jnp.sum(each) for each in divergences(alphas, space).values()), jnp.zeros(()))


#: A new penalty is a row here.
PENALTIES: Mapping[str, Penalty] = {
    "zero_one": Penalty(zero_one, 10.0),
    "zero_one_absolute": Penalty(zero_one_absolute, 10.0),
    "divergence": Penalty(divergence, 1e-3, mixture="dirichlet"),
}


def penalised(
    hypergradient: HypergradientFn,
    penalties: Mapping[str, tuple[PenaltyFn, float]],
    mixture: Mixture,
    space: Space,
    controls: Controls = NO_CONTROLS,
) -> HypergradientFn:
    """An estimator with penalties beside the validation loss; with none it is the estimator itself.

    Args:
      hypergradient: the estimator of the validation loss.
      penalties: function and factor by name; each is the metric `hypergradient/penalty_NAME`, with its factor.
      mixture: how the alphas become weights; the penalties see its mean.
      space: the search space.
      controls: numbers of the epoch, for the mixture.
    """
    for name, (function, weight) in penalties.items():

        def penalty(alphas: Alphas, function: PenaltyFn = function, weight: float = weight) -> jax.Array:
            of_operations = mixture.weights(alphas, space, None, controls).operations
            return weight * function(operation_alphas(alphas), of_operations, space)

        hypergradient = with_penalty(hypergradient, name, penalty)
    return hypergradient


def with_penalty(hypergradient: HypergradientFn, name: str, penalty: Callable[[Alphas], jax.Array]) -> HypergradientFn:
    """An estimator with a function of the alphas beside the validation loss, whose value is the metric `penalty_NAME`."""

    def estimate(problem: Problem) -> Estimate:
        of_loss = hypergradient(problem)
        value, gradient = jax.value_and_grad(penalty)(problem.alphas)
        return of_loss._replace(
            gradient=jax.tree.map(jnp.add, of_loss.gradient, gradient),
            diagnostics={**of_loss.diagnostics, f"penalty_{name}": value},
        )

    return estimate
