"""What a method adds to the alphas' loss: one row for each penalty.

A penalty is a pure function `(alphas, weights {kind: [E, O]}, space) -> scalar`. It is part of the validation loss in the step of
the alphas alone, and depends on nothing but the alphas: its gradient is added to the hypergradient, whatever the estimator is.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jdarts.bilevel import Estimate, HypergradientFn, Problem
from jdarts.relaxation import NO_CONTROLS, Alphas, Mixture, Space

Penalty = Callable[[Alphas, Mapping[str, jax.Array], Space], jax.Array]

#: A new penalty is a row here.
PENALTIES: Mapping[str, Penalty] = {}


def penalised(
    hypergradient: HypergradientFn, penalties: Mapping[str, Penalty], mixture: Mixture, space: Space
) -> HypergradientFn:
    """An estimator with penalties beside the validation loss; with none it is the estimator itself.

    Args:
      hypergradient: the estimator of the validation loss.
      penalties: by name; each is the metric `hypergradient/penalty_NAME`.
      mixture: how the alphas become weights; the penalties see its mean.
      space: the search space.
    """
    for name, penalty in penalties.items():
        hypergradient = _with_penalty(hypergradient, name, penalty, mixture, space)
    return hypergradient


def _with_penalty(
    hypergradient: HypergradientFn, name: str, penalty: Penalty, mixture: Mixture, space: Space
) -> HypergradientFn:
    def penalty_of(alphas: Alphas) -> jax.Array:
        return penalty(alphas, mixture.weights(alphas, space, None, NO_CONTROLS).operations, space)

    def estimate(problem: Problem) -> Estimate:
        of_loss = hypergradient(problem)
        value, gradient = jax.value_and_grad(penalty_of)(problem.alphas)
        return of_loss._replace(
            gradient=jax.tree.map(jnp.add, of_loss.gradient, gradient),
            diagnostics={**of_loss.diagnostics, f"penalty_{name}": value},
        )

    return estimate
