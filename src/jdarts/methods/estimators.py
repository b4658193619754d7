"""Estimators and optimisers of the alphas that a method puts around those of `jdarts.bilevel`."""

import jax
import jax.numpy as jnp
import optax

from jdarts.bilevel import Estimate, HypergradientFn, Problem


def without_hypergradient(problem: Problem) -> Estimate:
    """The validation loss at the present weights, and zeros: for steps that leave the alphas as they are."""
    loss, metrics = problem.valid_loss(problem.weights, problem.alphas)
    return Estimate(jax.tree.map(jnp.zeros_like, problem.alphas), loss, metrics, {})


def standing(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimiser with the state of another that leaves parameters and state as they are, decay included."""

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        del params
        return jax.tree.map(jnp.zeros_like, updates), state

    return optax.GradientTransformation(optimizer.init, update)


def clipped(hypergradient: HypergradientFn, largest: float) -> HypergradientFn:
    """An estimator whose gradient is scaled down where its norm over all alphas is larger than `largest`."""
    clip = optax.clip_by_global_norm(largest)

    def estimate(problem: Problem) -> Estimate:
        found = hypergradient(problem)
        return found._replace(gradient=clip.update(found.gradient, clip.init(problem.alphas))[0])

    return estimate
