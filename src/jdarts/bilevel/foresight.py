"""How good a hypergradient is: the change of the validation loss that it predicts, against the real one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jdarts.bilevel.problem import Problem, PyTree
from jdarts.bilevel.updates import make_update
from jdarts.bilevel.virtual_step import optimizer_reads_value, signal_of, virtual_optimizer_of
from jdarts.errors import InputError
from jdarts.xla.outlined import outlined
from jdarts.xla.trees import apply_updates

#: The numbers of an epoch that hold them.
SLOPE, CORRELATION = "guards/hypergradient_slope", "guards/hypergradient_correlation"


class Foresight(NamedTuple):
    """Predicted and real changes of L_val(w′(α), α), where w′ is one virtual step of the weights at the changed alphas.

    Attributes:
      predicted: `[1 + K]`, products of the hypergradient with the step that was taken and with K random directions of the same
        length.
      real: `[1 + K]`, the changes themselves.
      slope: of the line through the origin that fits the real changes best: 1 for a perfect hypergradient and short steps, 0
        where nothing is predicted.
      correlation: the cosine of the angle between predicted and real changes; 1 where they are proportional.
    """

    predicted: jax.Array
    real: jax.Array
    slope: jax.Array
    correlation: jax.Array

    def numbers(self) -> dict[str, jax.Array]:
        """The numbers of an epoch, by name."""
        return {SLOPE: self.slope, CORRELATION: self.correlation}


def foresight(
    problem: Problem,
    gradient: PyTree,
    update: PyTree,
    key: jax.Array,
    *,
    directions: int = 4,
    virtual_optimizer: optax.GradientTransformation | None = None,
) -> Foresight:
    """Compares what a hypergradient predicts with what happens, along the step of the alphas and along random directions. Pure.

    Every direction costs a gradient of the training loss and a pass on the validation batch; there is one more such evaluation,
    at the alphas themselves. In float32, changes below about 1e-6 of the loss are rounding.

    Args:
      problem: the problem that the hypergradient is of.
      gradient: `Estimate.gradient`.
      update: the step that the alphas take, a pytree like them.
      key: draws the directions; the same on all devices.
      directions: number K of random directions, 0 or more.
      virtual_optimizer: makes the virtual step, as in `exact`.

    Raises:
      InputError: a negative number of directions, or a virtual optimiser of another state.
    """
    if directions < 0:
        raise InputError(f"foresight: {directions} random directions; give 0 or more")
    optimizer = virtual_optimizer_of(problem, virtual_optimizer)
    reads = optimizer_reads_value(problem, optimizer)

    def loss(alphas: PyTree) -> jax.Array:
        signal = problem.average(signal_of(problem.train_loss, reads, problem.weights, alphas))
        updates, _ = make_update(optimizer, signal, problem.weight_opt_state, problem.weights, whose="weight")
        return problem.average(problem.valid_loss(apply_updates(problem.weights, updates), alphas)[0])

    taken, tree_of = ravel_pytree(update)
    drawn = jax.random.normal(key, (directions, taken.size), taken.dtype)
    drawn = drawn * (jnp.linalg.norm(taken) / jnp.linalg.norm(drawn, axis=1, keepdims=True))
    steps = jnp.concatenate([taken[None], drawn])
    # One program for all evaluations.
    evaluate = outlined(loss, problem)
    before = evaluate(problem.alphas)
    real = jnp.stack([evaluate(apply_updates(problem.alphas, tree_of(step))) for step in steps]) - before
    predicted = (steps @ ravel_pytree(gradient)[0]).astype(real.dtype)
    product, squares = jnp.vdot(predicted, real), jnp.vdot(predicted, predicted)
    lengths = jnp.sqrt(squares * jnp.vdot(real, real))
    return Foresight(predicted, real, _ratio(product, squares), _ratio(product, lengths))


def _ratio(value: jax.Array, by: jax.Array) -> jax.Array:
    return jnp.where(by > 0, value / jnp.where(by > 0, by, jnp.ones_like(by)), jnp.zeros_like(by))
