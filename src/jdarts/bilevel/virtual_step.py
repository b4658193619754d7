"""What the estimators with a virtual step share: the training gradient, its products, and the step from it."""

import functools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jdarts.bilevel.problem import Estimate, Metrics, Problem, PyTree
from jdarts.bilevel.slopes import pulled_back, stays_finite
from jdarts.bilevel.updates import Signal, make_update, reads_value
from jdarts.errors import InputError
from jdarts.xla.convolutions import for_derivatives_of
from jdarts.xla.jaxprs import is_differentiable_forward
from jdarts.xla.outlined import outlined
from jdarts.xla.trees import apply_updates, global_norm


def signal_of(loss: Callable[[PyTree, PyTree], jax.Array], with_value: bool, weights: PyTree, alphas: PyTree) -> Signal:
    """The inputs of the weight optimiser's update: `∇w loss`, and the loss itself if the optimiser reads it."""
    value, gradient = jax.value_and_grad(loss)(weights, alphas)
    return Signal(gradient, value if with_value else None)


class Training(NamedTuple):
    """The training gradient, and products with its derivatives, which reuse its passes.

    Attributes:
      signal: `∇w L_train`, and the loss if the optimiser reads it.
      by_alphas: `u ↦ ∇²αw L_train · u`.
      by_weights: `u ↦ ∇²w L_train · u`.
    """

    signal: Signal
    by_alphas: Callable[[Signal], PyTree]
    by_weights: Callable[[Signal], PyTree]


def training_products(problem: Problem, with_value: bool) -> Training:
    """The training gradient ∇w and its products.

    Products push a direction forward through the gradient as a function of the weights. If the loss holds a `jax.custom_vjp`,
    which has no forward mode, they pull it back instead.

    Args:
      problem: the problem.
      with_value: whether the optimiser reads the value of the loss. `u` then has a value s too, and the products add
        s times the gradient of the loss.
    """
    loss = problem.train_loss
    traced = jax.make_jaxpr(loss)(problem.weights, problem.alphas)
    prepared = for_derivatives_of(traced, problem)
    if not is_differentiable_forward(traced):
        of_signal = prepared(partial(signal_of, loss, with_value))
        signal, pull_by_alphas = jax.vjp(partial(of_signal, problem.weights), problem.alphas)

        @functools.cache
        def pull_by_weights() -> Callable[[Signal], tuple[PyTree]]:
            return jax.vjp(lambda weights: of_signal(weights, problem.alphas), problem.weights)[1]

        return Training(signal, prepared(lambda u: pull_by_alphas(u)[0]), prepared(lambda u: pull_by_weights()(u)[0]))

    def passes(weights: PyTree) -> tuple[Signal, PyTree]:
        value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(weights, problem.alphas)
        return Signal(gradients[0], value if with_value else None), gradients[1]

    (signal, of_alphas), push = jax.linearize(prepared(passes), problem.weights)

    def by_alphas(direction: Signal) -> PyTree:
        mixed = push(direction.gradient)[1]
        return mixed if direction.value is None else added(mixed, direction.value, of_alphas)

    def by_weights(direction: Signal) -> PyTree:
        curved = push(direction.gradient)[0].gradient
        return curved if direction.value is None else added(curved, direction.value, signal.gradient)

    return Training(signal, by_alphas, by_weights)


def added(tree: PyTree, factor: jax.Array, other: PyTree) -> PyTree:
    """`tree + factor · other`, in the types of `other`."""
    return jax.tree.map(lambda a, b: a + factor.astype(b.dtype) * b, tree, other)


class VirtualStep(NamedTuple):
    """The validation loss at the virtual weights, and its gradients.

    Attributes:
      valid_loss: `L_val(w′, α)`, a scalar of this device.
      metrics: of the loss on the validation batch.
      direct: `∂L_val(w′, α)/∂α` of this device.
      at_weights: `v = ∂L_val(w′, α)/∂w′`, the mean over devices.
      direction: `u = (∂Δ/∂g)ᵀ v`.
      pull_back: `v ↦ (u,)`.
      slope_finite: whether the derivative of the update is finite; bool `[]`.
    """

    valid_loss: jax.Array
    metrics: Metrics
    direct: PyTree
    at_weights: PyTree
    direction: Signal
    pull_back: Callable[[PyTree], tuple[Signal]]
    slope_finite: jax.Array

    def estimate(
        self, problem: Problem, implicit: PyTree, diagnostics: Mapping[str, jax.Array] | None = None
    ) -> Estimate:
        """The estimate whose second term is `implicit`, this device's product with `u`."""
        direct, implicit = problem.average((self.direct, implicit))
        norms = {
            "direct_norm": global_norm(direct),
            "implicit_norm": global_norm(implicit),
            "optimizer_slope_finite": self.slope_finite,
        }
        gradient = jax.tree.map(jnp.add, direct, implicit)
        return Estimate(gradient, self.valid_loss, self.metrics, {**norms, **(diagnostics or {})})


def take_virtual_step(
    problem: Problem, training: Signal, optimizer: optax.GradientTransformation, *, length: Literal[0, 1] = 1
) -> VirtualStep:
    """Takes the virtual step w′ = w + Δ(g) and pulls the validation gradient at w′ back to `u`.

    Args:
      problem: the problem.
      training: gradient of the training loss, of this device.
      optimizer: makes the step.
      length: with 0 the validation loss is that at `w`; the derivative of the step is the same.
    """

    def step(signal: Signal) -> PyTree:
        updates, _ = make_update(optimizer, signal, problem.weight_opt_state, problem.weights, whose="weight")
        return apply_updates(problem.weights, updates)

    virtual_weights, pull_back = jax.vjp(step, problem.average(training))
    validation = outlined(jax.value_and_grad(problem.valid_loss, argnums=(0, 1), has_aux=True), problem)
    (loss, metrics), (at_weights, direct) = validation(virtual_weights if length else problem.weights, problem.alphas)
    given = problem.average(at_weights)
    (direction,) = pulled_back(pull_back, given)
    return VirtualStep(loss, metrics, direct, given, direction, pull_back, stays_finite(given, direction))


def optimizer_reads_value(problem: Problem, optimizer: optax.GradientTransformation) -> bool:
    """Whether the weight updates depend on the value of the loss."""
    return reads_value(optimizer, problem.weight_opt_state, problem.weights)


def virtual_optimizer_of(
    problem: Problem, virtual_optimizer: optax.GradientTransformation | None
) -> optax.GradientTransformation:
    """The optimiser of the virtual step: the given one, or the weight optimiser.

    Raises:
      InputError: the two have different states.
    """
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
