"""The hypergradient of many weight steps by a truncated Neumann series (iDARTS; Zhang et al. 2021)."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from jdarts.bilevel.problem import Estimate, HypergradientFn, Problem, PyTree
from jdarts.bilevel.slopes import pulled_back, stays_finite
from jdarts.bilevel.updates import make_update
from jdarts.bilevel.virtual_step import (
    Training,
    optimizer_reads_value,
    take_virtual_step,
    training_products,
    virtual_optimizer_of,
)
from jdarts.errors import InputError
from jdarts.xla.outlined import outlined
from jdarts.xla.trees import apply_updates, global_norm


def neumann(
    terms: int = 2,
    *,
    at: Literal["virtual", "present"] = "virtual",
    virtual_optimizer: optax.GradientTransformation | None = None,
) -> HypergradientFn:
    """The hypergradient of `terms + 1` weight steps, all linearised at the present weights.

    With Δ(g, w) the weight optimiser's update and J = I + ∂Δ/∂w + ∂Δ/∂g · ∇²w L_train the derivative of a step by the weights,

        s = Σ_{k ≤ terms} (Jᵀ)ᵏ v,   d/dα L_val ≈ ∂L_val/∂α + ∇²αw L_train · (∂Δ/∂g)ᵀ s.

    For SGD without momentum and weight decay J = I − ηH with H = ∇²w L_train, and this is iDARTS's formula
    `∂L_val/∂α − η · ∇²αw L_train · Σ (I − ηH)ᵏ v`. The optimiser's state is held fixed: momentum counts as it does in one step.
    All products are exact. With 0 terms this is `exact()`, bit for bit. With more, the series tends to the implicit gradient of
    the inner minimum if the eigenvalues of J lie within the unit circle. Each term is one more product with the Hessian.

    The diagnostic `series_growth` is `‖(Jᵀ)^terms v‖ / ‖v‖`; the series diverges if it grows with the number of terms.

    Args:
      terms: number of terms after `v`, 0 or more; iDARTS takes 2.
      at: where the validation loss is taken: at the weights after one virtual step, as `exact` does, or at the present ones,
        which iDARTS regards as the result of the weight steps before.
      virtual_optimizer: as in `exact`.

    Raises:
      InputError: a number of terms below 0, or another place.
    """
    if terms < 0:
        raise InputError(f"neumann: {terms} terms; give 0 or more (iDARTS takes 2)")
    if at not in ("virtual", "present"):
        raise InputError(f"neumann: at is {at!r}; give 'virtual' or 'present'")

    def estimate(problem: Problem) -> Estimate:
        optimizer = virtual_optimizer_of(problem, virtual_optimizer)
        training = training_products(problem, optimizer_reads_value(problem, optimizer))
        virtual = take_virtual_step(problem, training.signal, optimizer, length=1 if at == "virtual" else 0)
        if terms == 0:
            return virtual.estimate(problem, training.by_alphas(virtual.direction))
        around = _around(problem, training, optimizer)
        # Each is traced once for all terms.
        curved = outlined(training.by_weights, problem)
        kept_of, direction_of = (outlined(_pulled_through(pull), problem) for pull in (around, virtual.pull_back))
        term, direction, total, finite = virtual.at_weights, virtual.direction, virtual.direction, virtual.slope_finite
        for _ in range(terms):
            kept, kept_finite = kept_of(term)
            term = jax.tree.map(jnp.add, kept, problem.average(curved(direction)))
            direction, direction_finite = direction_of(term)
            finite &= kept_finite & direction_finite
            total = jax.tree.map(jnp.add, total, direction)
        first, last = global_norm(virtual.at_weights), global_norm(term)
        growth = jnp.where(first > 0, last / jnp.where(first > 0, first, jnp.ones_like(first)), jnp.zeros_like(first))
        diagnostics = {"optimizer_slope_finite": finite, "series_growth": growth}
        return virtual.estimate(problem, training.by_alphas(total), diagnostics)

    return estimate


def _pulled_through(pull: Callable[[PyTree], tuple[PyTree]]) -> Callable[[PyTree], tuple[PyTree, jax.Array]]:
    """A function of cotangents to those that `pulled_back` makes of them, and whether these stay finite."""

    def pulled(cotangents: PyTree) -> tuple[PyTree, jax.Array]:
        (found,) = pulled_back(pull, cotangents)
        return found, stays_finite(cotangents, found)

    return pulled


def _around(problem: Problem, training: Training, optimizer: optax.GradientTransformation) -> Any:
    """`v ↦ (I + ∂Δ/∂w)ᵀ v`: through the weights themselves, at a fixed gradient."""
    signal = problem.average(training.signal)

    def step(weights: PyTree) -> PyTree:
        updates, _ = make_update(optimizer, signal, problem.weight_opt_state, weights, whose="weight")
        return apply_updates(weights, updates)

    return jax.vjp(step, problem.weights)[1]
