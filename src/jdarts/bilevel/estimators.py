"""Estimators of the hypergradient: functions from a `Problem` to an `Estimate` (see the package for the formula)."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jdarts.bilevel.problem import Estimate, HypergradientFn, Metrics, Problem, PyTree
from jdarts.bilevel.updates import Signal, make_update, no_cotangents, pulled_back, reads_value, stays_finite
from jdarts.errors import InputError
from jdarts.xla.jaxprs import has_forward_mode
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
        optimizer = _virtual_optimizer(problem, virtual_optimizer)
        training, product = _signal_and_product(problem, _reads_value(problem, optimizer))
        virtual = _virtual_step(problem, training, optimizer)
        return virtual.estimate(problem, product(virtual.direction))

    return estimate


def finite_difference(
    epsilon: float = 0.01, *, virtual_optimizer: optax.GradientTransformation | None = None
) -> HypergradientFn:
    """The paper's estimate: the product by a central difference of two gradients (equation 8).

    `(∇α L_train(w + εu, α) − ∇α L_train(w − εu, α)) / 2ε` with `ε = epsilon / ‖u‖₂`, one norm over all weights. On networks with
    ReLUs or max pools the α-gradient jumps where an activation crosses its kink, so this is not close to `exact()` there.
    Where `‖u‖₂ = 0` the product is 0.

    Args:
      epsilon: length of the perturbation of the weights, above 0; the paper's value is 0.01.
      virtual_optimizer: as in `exact`.

    Raises:
      InputError: epsilon is not above 0, or, in a step, weights or alphas of fewer than 32 bits, in which the difference of
        two gradients is noise.
    """
    if not epsilon > 0:
        raise InputError(f"finite_difference: epsilon is {epsilon}; give a number above 0 (the paper's is 0.01)")

    def estimate(problem: Problem) -> Estimate:
        for leaf in jax.tree.leaves((problem.weights, problem.alphas)):
            if leaf.dtype.itemsize < 4:
                raise InputError(
                    f"finite_difference: weights or alphas are {leaf.dtype}, which has too few digits for the difference of two "
                    "gradients over 2ε; use float32, or exact()"
                )
        optimizer = _virtual_optimizer(problem, virtual_optimizer)
        training = outlined(partial(_signal, problem.train_loss, _reads_value(problem, optimizer)), problem)
        virtual = _virtual_step(problem, training(problem.weights, problem.alphas), optimizer)
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
            implicit = _added(implicit, virtual.direction.value, by_alphas(problem.weights, problem.alphas))
        return virtual.estimate(problem, implicit, {"difference_step": scale})

    return estimate


def unrolled(steps: int = 1, *, virtual_optimizer: optax.GradientTransformation | None = None) -> HypergradientFn:
    """`jax.grad` through real steps of the weight optimiser: the ground truth for tests and small problems.

    With one step it equals `exact()`. Memory and compile time grow with the number of steps; all of them see the same
    training batch.

    Args:
      steps: number of optimiser steps to differentiate through, 1 or more.
      virtual_optimizer: as in `exact`.

    Raises:
      InputError: fewer than one step.
    """
    if steps < 1:
        raise InputError(f"unrolled: {steps} steps; give 1 or more, or use first_order()")

    def estimate(problem: Problem) -> Estimate:
        optimizer = _virtual_optimizer(problem, virtual_optimizer)
        reads = _reads_value(problem, optimizer)

        def training(weights: PyTree, alphas: PyTree) -> Signal:
            return problem.average(_signal(problem.train_loss, reads, weights, alphas))

        def step(signal: Signal, opt_state: optax.OptState, weights: PyTree) -> tuple[PyTree, optax.OptState]:
            updates, opt_state = make_update(optimizer, signal, opt_state, weights, whose="weight")
            return apply_updates(weights, updates), opt_state

        weights, opt_state, pulls = problem.weights, problem.weight_opt_state, []
        for _ in range(steps):
            signal, pull_signal = jax.vjp(training, weights, problem.alphas)
            (weights, opt_state), pull_step = jax.vjp(step, signal, opt_state, weights)
            pulls.append((pull_signal, pull_step))
        validation = jax.value_and_grad(problem.valid_loss, argnums=(0, 1), has_aux=True)
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


def _signal(loss: Callable[[PyTree, PyTree], jax.Array], with_value: bool, weights: PyTree, alphas: PyTree) -> Signal:
    value, gradient = jax.value_and_grad(loss)(weights, alphas)
    return Signal(gradient, value if with_value else None)


def _signal_and_product(problem: Problem, with_value: bool) -> tuple[Signal, Callable[[Signal], PyTree]]:
    """The training gradient ∇w, and `u ↦ ∇²αw L_train · u`, which reuses the passes of the gradient."""
    if not has_forward_mode(problem.train_loss, problem.weights, problem.alphas):
        signal, pull = jax.vjp(partial(_signal, problem.train_loss, with_value, problem.weights), problem.alphas)
        return signal, lambda direction: pull(direction)[0]

    def passes(weights: PyTree) -> tuple[Signal, PyTree]:
        value, gradients = jax.value_and_grad(problem.train_loss, argnums=(0, 1))(weights, problem.alphas)
        return Signal(gradients[0], value if with_value else None), gradients[1]

    (signal, by_alphas), push = jax.linearize(passes, problem.weights)

    def product(direction: Signal) -> PyTree:
        mixed = push(direction.gradient)[1]
        return mixed if direction.value is None else _added(mixed, direction.value, by_alphas)

    return signal, product


def _added(tree: PyTree, factor: jax.Array, other: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: a + factor.astype(b.dtype) * b, tree, other)


class _VirtualStep(NamedTuple):
    """The validation loss at the virtual weights, and its gradients."""

    valid_loss: jax.Array
    metrics: Metrics
    direct: PyTree
    direction: Signal
    slope_finite: jax.Array

    def estimate(
        self, problem: Problem, implicit: PyTree, diagnostics: Mapping[str, jax.Array] | None = None
    ) -> Estimate:
        direct, implicit = problem.average((self.direct, implicit))
        norms = {
            "direct_norm": global_norm(direct),
            "implicit_norm": global_norm(implicit),
            "optimizer_slope_finite": self.slope_finite,
        }
        gradient = jax.tree.map(jnp.add, direct, implicit)
        return Estimate(gradient, self.valid_loss, self.metrics, {**norms, **(diagnostics or {})})


def _virtual_step(problem: Problem, training: Signal, optimizer: optax.GradientTransformation) -> _VirtualStep:
    """Takes the virtual step w′ = w + Δ(g) and pulls the validation gradient at w′ back to `u`."""

    def step(signal: Signal) -> PyTree:
        updates, _ = make_update(optimizer, signal, problem.weight_opt_state, problem.weights, whose="weight")
        return apply_updates(problem.weights, updates)

    virtual_weights, pull_back = jax.vjp(step, problem.average(training))
    validation = outlined(jax.value_and_grad(problem.valid_loss, argnums=(0, 1), has_aux=True), problem)
    (loss, metrics), (at_weights, direct) = validation(virtual_weights, problem.alphas)
    given = problem.average(at_weights)
    (direction,) = pulled_back(pull_back, given)
    return _VirtualStep(loss, metrics, direct, direction, stays_finite(given, direction))


def _reads_value(problem: Problem, optimizer: optax.GradientTransformation) -> bool:
    return reads_value(optimizer, problem.weight_opt_state, problem.weights)


def _virtual_optimizer(
    problem: Problem, virtual_optimizer: optax.GradientTransformation | None
) -> optax.GradientTransformation:
    if virtual_optimizer is None:
        return problem.weight_optimizer
    own = jax.tree.structure(jax.eval_shape(virtual_optimizer.init, problem.weights))
    given = jax.tree.structure(problem.weight_opt_state)
    if own != given:
        raise InputError(
            f"the virtual optimiser has the state {own}, the weight optimiser {given}; build both from the same stages "
            "and put optax.identity() in place of those that the virtual step leaves out"
        )
    return virtual_optimizer
