"""Estimators of the hypergradient: functions from a `Problem` to an `Estimate` (see the package for the formula)."""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from jdarts.bilevel.problem import Estimate, HypergradientFn, Problem, PyTree
from jdarts.bilevel.slopes import no_cotangents, pulled_back, stays_finite
from jdarts.bilevel.updates import Signal, make_update
from jdarts.bilevel.virtual_step import (
    added,
    optimizer_reads_value,
    signal_of,
    take_virtual_step,
    training_products,
    virtual_optimizer_of,
)
from jdarts.errors import InputError
from jdarts.xla.convolutions import for_derivatives_of
from jdarts.xla.jax_compat import Tracer
from jdarts.xla.outlined import outlined
from jdarts.xla.trees import apply_updates, global_norm


def first_order() -> HypergradientFn:
    """The hypergradient with ξ = 0: `∂L_val(w, α)/∂α` at the present weights (paper section 2.3)."""

    def estimate(problem: Problem) -> Estimate:
        validation = outlined(jax.value_and_grad(problem.valid_loss, argnums=1, has_aux=True), problem)
        (loss, metrics), direct = validation(problem.weights, problem.alphas)
        return Estimate(problem.average(direct), loss, metrics, {})

    return estimate


def exact(*, virtual_optimizer: optax.GradientTransformation | None = None) -> HypergradientFn:
    """The exact hypergradient of one unrolled step, to rounding (paper equation 6, no finite difference).

    The product ∇²αw L_train(w, α)·u pushes `u` forward through the training gradient as a function of w. That gradient is
    computed once, also for the virtual step. If the loss holds a `jax.custom_vjp`, which has no forward mode, the product pulls
    `u` back through the gradient as a function of α instead, which is slower and gives the same.

    Args:
      virtual_optimizer: makes the virtual step instead of the weight optimiser. It gets the weight optimiser's state, so the two
        must have the same state structure: put `optax.identity()` in place of a stage to leave out.
    """

    def estimate(problem: Problem) -> Estimate:
        optimizer = virtual_optimizer_of(problem, virtual_optimizer)
        training = training_products(problem, optimizer_reads_value(problem, optimizer))
        virtual = take_virtual_step(problem, training.signal, optimizer)
        return virtual.estimate(problem, training.by_alphas(virtual.direction))

    return estimate


def finite_difference(
    epsilon: float | jax.Array = 0.01, *, virtual_optimizer: optax.GradientTransformation | None = None
) -> HypergradientFn:
    """The paper's estimate: the product by a central difference of two gradients (equation 8).

    `(∇α L_train(w + εu, α) − ∇α L_train(w − εu, α)) / 2ε` with `ε = epsilon / ‖u‖₂`, one norm over all weights. On networks with
    ReLUs or max pools the α-gradient jumps where an activation crosses its kink, so this is not close to `exact()` there.
    Where `‖u‖₂ = 0` the product is 0.

    Args:
      epsilon: length of the perturbation of the weights, above 0; the paper's value is 0.01. A traced scalar lets one program
        serve several lengths.
      virtual_optimizer: as in `exact`.

    Raises:
      InputError: epsilon is not above 0, or, in a step, weights or alphas of fewer than 32 bits, in which the difference of
        two gradients is noise.
    """
    if not isinstance(epsilon, Tracer) and not epsilon > 0:
        raise InputError(f"finite_difference: epsilon is {epsilon}; give a number above 0 (the paper's is 0.01)")

    def estimate(problem: Problem) -> Estimate:
        for leaf in jax.tree.leaves((problem.weights, problem.alphas)):
            if leaf.dtype.itemsize < 4:
                raise InputError(
                    f"finite_difference: weights or alphas are {leaf.dtype}, which has too few digits for the difference of two "
                    "gradients over 2ε; use float32, or exact()"
                )
        optimizer = virtual_optimizer_of(problem, virtual_optimizer)
        training = outlined(partial(signal_of, problem.train_loss, optimizer_reads_value(problem, optimizer)), problem)
        virtual = take_virtual_step(problem, training(problem.weights, problem.alphas), optimizer)
        direction = virtual.direction.gradient
        norm = global_norm(direction)
        vanishes = norm == 0
        scale = epsilon / jnp.where(vanishes, jnp.ones_like(norm), norm)

        by_alphas = outlined(jax.grad(problem.train_loss, argnums=1), problem)

        def alpha_gradient(step: jax.Array) -> PyTree:
            return by_alphas(apply_updates(problem.weights, direction, step), problem.alphas)

        # Two calls, not a loop: XLA's convolutions are slow inside loops on CPUs. Adding 0 orders them, so that they share
        # their memory.
        plus = alpha_gradient(scale)
        nothing = sum((0 * jnp.sum(leaf).astype(scale.dtype) for leaf in jax.tree.leaves(plus)), jnp.zeros_like(scale))
        implicit = jax.tree.map(
            lambda plus, minus: jnp.where(
                vanishes, jnp.zeros_like(plus), ((plus - minus) / (2 * scale)).astype(plus.dtype)
            ),
            plus,
            alpha_gradient(nothing - scale),
        )
        if virtual.direction.value is not None:
            implicit = added(implicit, virtual.direction.value, by_alphas(problem.weights, problem.alphas))
        return virtual.estimate(problem, implicit, {"difference_step": scale})

    return estimate


def unrolled(steps: int = 1, *, virtual_optimizer: optax.GradientTransformation | None = None) -> HypergradientFn:
    """`jax.grad` through real steps of the weight optimiser: the ground truth for tests and small problems.

    With one step it equals `exact()`. Memory and compile time grow with the number of steps. The steps see the training batches
    of the real weight steps in their order, and then again from the first: with one batch, all see the same.

    Args:
      steps: number of optimiser steps to differentiate through, 1 or more.
      virtual_optimizer: as in `exact`.

    Raises:
      InputError: fewer than one step.
    """
    if steps < 1:
        raise InputError(f"unrolled: {steps} steps; give 1 or more, or use first_order()")

    def estimate(problem: Problem) -> Estimate:
        optimizer = virtual_optimizer_of(problem, virtual_optimizer)
        reads = optimizer_reads_value(problem, optimizer)

        traced = jax.make_jaxpr(problem.train_loss)(problem.weights, problem.alphas)
        prepared = for_derivatives_of(traced, problem)
        losses = (problem.train_loss, *problem.later_train_losses)
        signals = [prepared(partial(signal_of, loss, reads)) for loss in losses]

        def training(place: int, weights: PyTree, alphas: PyTree) -> Signal:
            return problem.average(signals[place % len(losses)](weights, alphas))

        def step(signal: Signal, opt_state: optax.OptState, weights: PyTree) -> tuple[PyTree, optax.OptState]:
            updates, opt_state = make_update(optimizer, signal, opt_state, weights, whose="weight")
            return apply_updates(weights, updates), opt_state

        weights, opt_state, pulls = problem.weights, problem.weight_opt_state, []
        for place in range(steps):
            signal, pull_signal = jax.vjp(partial(training, place), weights, problem.alphas)
            (weights, opt_state), pull_step = jax.vjp(step, signal, opt_state, weights)
            pulls.append((prepared(pull_signal), pull_step))
        validation = prepared(jax.value_and_grad(problem.valid_loss, argnums=(0, 1), has_aux=True))
        (loss, metrics), (of_weights, gradient) = validation(weights, problem.alphas)
        of_state, finite = no_cotangents(opt_state), jnp.array(True)
        for place, (pull_signal, pull_step) in reversed(list(enumerate(pulls))):
            given = (of_weights, of_state)
            of_signal, of_state, around = pulled_back(pull_step, given)
            # Cotangents of the state before the first step are not used.
            finite &= stays_finite(given, (of_signal, of_state, around) if place else of_signal)
            through, of_alphas = pull_signal(of_signal)
            of_weights = jax.tree.map(jnp.add, around, through)
            gradient = jax.tree.map(jnp.add, gradient, of_alphas)
        return Estimate(problem.average(gradient), loss, metrics, {"optimizer_slope_finite": finite})

    return estimate
