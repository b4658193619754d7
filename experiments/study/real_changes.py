"""What estimators of the hypergradient predict at one moment of a search, and what happens to the validation loss instead.

The change that a step δ of the alphas makes is measured, not derived: the weights are trained for K steps at α + δ and at α − δ,
and the validation loss of both is compared. Half of their difference is the part that a gradient can predict; half of their
sum, less the loss at α, is the part that curvature makes.
"""

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from jdarts.bilevel import HypergradientFn, Problem, exact, finite_difference, first_order, neumann
from jdarts.bilevel.updates import Signal, make_update
from jdarts.xla.trees import apply_updates

#: `(weights, alphas, batch) -> loss`, a scalar.
Loss = Callable[[Any, Any, Any], jax.Array]


class Moment(NamedTuple):
    """A moment of a search.

    Attributes:
      weights: `w`.
      alphas: `α`.
      weight_opt_state: of the weights' optimiser.
      train: batches of the weight steps that follow.
      valid: the validation batch of the estimators.
    """

    weights: Any
    alphas: Any
    weight_opt_state: Any
    train: Sequence[Any]
    valid: Any

    def astype(self, dtype: Any) -> "Moment":
        """All floating-point arrays in a type."""

        return jax.tree.map(lambda leaf: leaf.astype(dtype) if _is_float(leaf) else leaf, self)


class Changes(NamedTuple):
    """Validation losses after steps of the alphas.

    Attributes:
      before: at α itself; a number.
      plus: `[D]`, at α + δ of each direction.
      minus: `[D]`, at α − δ.
    """

    before: float
    plus: np.ndarray
    minus: np.ndarray

    @property
    def odd(self) -> np.ndarray:
        """`[D]`, half the difference: what a gradient can predict."""
        return (self.plus - self.minus) / 2

    @property
    def even(self) -> np.ndarray:
        """`[D]`, what is alike on both sides: curvature."""
        return (self.plus + self.minus) / 2 - self.before


class Trained:
    """The validation loss after steps of the weights, as a function of the alphas.

    Args:
      loss: the loss.
      optimizer: makes the weight steps.

    Attributes:
      step: one step of the weights, compiled: `(weights, opt_state, alphas, batch) -> (weights, opt_state)`.
    """

    def __init__(self, loss: Loss, optimizer: optax.GradientTransformation) -> None:
        self.step = jax.jit(functools.partial(weight_step, loss, optimizer))
        self._valid = jax.jit(loss)

    def losses(self, moment: Moment, alphas: Any, valid: Sequence[Any], steps: Sequence[int]) -> dict[int, float]:
        """The mean loss over validation batches after each of some numbers of steps, with the moment's training batches."""
        weights, opt_state, found = moment.weights, moment.weight_opt_state, {}
        for number in range(max(steps) + 1):
            if number:
                weights, opt_state = self.step(weights, opt_state, alphas, moment.train[number - 1])
            if number in steps:
                found[number] = statistics.fmean(float(self._valid(weights, alphas, batch)) for batch in valid)
        return found

    def changes(
        self, moment: Moment, directions: np.ndarray, valid: Sequence[Any], steps: Sequence[int]
    ) -> dict[int, Changes]:
        """The losses on both sides of the alphas, by number of weight steps.

        Args:
          moment: where.
          directions: `[D, n]`, steps of the `n` alphas.
          valid: validation batches.
          steps: numbers of weight steps.
        """
        vector, tree_of = ravel_pytree(moment.alphas)

        def at(step: np.ndarray) -> dict[int, float]:
            return self.losses(moment, tree_of(vector + jnp.asarray(step, vector.dtype)), valid, steps)

        before = at(np.zeros_like(directions[0]))
        plus, minus = ([at(sign * step) for step in directions] for sign in (1, -1))
        return {
            number: Changes(
                before[number],
                np.array([each[number] for each in plus]),
                np.array([each[number] for each in minus]),
            )
            for number in steps
        }


def weight_step(
    loss: Loss, optimizer: optax.GradientTransformation, weights: Any, opt_state: Any, alphas: Any, batch: Any
) -> tuple[Any, Any]:
    """One step of the weights."""
    gradient = jax.grad(loss)(weights, alphas, batch)
    updates, opt_state = make_update(optimizer, Signal(gradient, None), opt_state, weights, whose="weight")
    return apply_updates(weights, updates), opt_state


class Estimators:
    """The estimators that are compared, compiled once.

    Args:
      loss: the loss.
      virtual_optimizer: makes their virtual steps.
      epsilons: of the finite difference.
      unrolls: numbers of steps of the unrolled one.
      terms: of the Neumann series.

    Attributes:
      virtual: trains by the virtual steps of the estimators.
    """

    def __init__(
        self,
        loss: Loss,
        virtual_optimizer: optax.GradientTransformation,
        *,
        epsilons: Sequence[float],
        unrolls: Sequence[int],
        terms: Sequence[int],
    ) -> None:
        def compiled(make: Callable[..., HypergradientFn]) -> Callable[..., Any]:
            def estimate(moment: Moment, *settings: Any) -> Any:
                return make(*settings)(problem_of(moment, loss, virtual_optimizer)).gradient

            return jax.jit(estimate)

        difference = compiled(finite_difference)
        self.virtual = Trained(loss, virtual_optimizer)
        unroll = Unroll(loss, virtual_optimizer, self.virtual.step)
        self._functions: dict[str, Callable[[Moment], Any]] = {
            "first order": compiled(first_order),
            "exact": compiled(exact),
            **{difference_name(each): functools.partial(_with_epsilon, difference, each) for each in epsilons},
            **{f"unrolled {steps}": functools.partial(unroll, steps=steps) for steps in unrolls},
            **{f"Neumann {each}": compiled(functools.partial(neumann, each)) for each in terms},
        }

    def gradients(self, moment: Moment, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """The hypergradient `[n]` of each estimator, or of those of some names."""
        return {
            name: np.asarray(ravel_pytree(each(moment))[0], float)
            for name, each in self._functions.items()
            if name in names or not names
        }

    def seconds(self, moment: Moment, repeats: int) -> dict[str, float]:
        """The processor time that each takes: the least of some calls, all cores together."""
        return {
            name: min(_processor_time(each, moment) for _ in range(repeats)) for name, each in self._functions.items()
        }


class Unroll:
    """The hypergradient of K weight steps, one step after the other: that of `jdarts.bilevel.unrolled`, in a program for any K.

    Args:
      loss: the loss.
      optimizer: makes the steps.
      step: one of them, compiled, as that of `Trained`.
    """

    def __init__(self, loss: Loss, optimizer: optax.GradientTransformation, step: Callable[..., Any]) -> None:
        def pull(weights: Any, opt_state: Any, alphas: Any, batch: Any, cotangents: Any) -> Any:
            def of_floats(weights: Any, floats: list[Any], alphas: Any) -> Any:
                weights, new = weight_step(loss, optimizer, weights, _with_floats(opt_state, floats), alphas, batch)
                return weights, _floats(new)

            return jax.vjp(of_floats, weights, _floats(opt_state), alphas)[1](cotangents)

        self._step, self._pull = step, jax.jit(pull)
        self._valid = jax.jit(jax.grad(loss, argnums=(0, 1)))

    def __call__(self, moment: Moment, steps: int) -> Any:
        """The hypergradient, a pytree like the alphas."""
        states = [(moment.weights, moment.weight_opt_state)]
        for batch in moment.train[:steps]:
            states.append(self._step(*states[-1], moment.alphas, batch))
        of_weights, gradient = self._valid(states[-1][0], moment.alphas, moment.valid)
        of_state = [jnp.zeros_like(leaf) for leaf in _floats(states[-1][1])]
        for state, batch in reversed(list(zip(states[:-1], moment.train))):
            of_weights, of_state, of_alphas = self._pull(*state, moment.alphas, batch, (of_weights, of_state))
            gradient = jax.tree.map(jnp.add, gradient, of_alphas)
        return gradient


def problem_of(moment: Moment, loss: Loss, optimizer: optax.GradientTransformation) -> Problem:
    """The problem of one step at a moment."""
    return Problem(
        weights=moment.weights,
        alphas=moment.alphas,
        train_loss=lambda weights, alphas: loss(weights, alphas, moment.train[0]),
        valid_loss=lambda weights, alphas: (loss(weights, alphas, moment.valid), {}),
        weight_optimizer=optimizer,
        weight_opt_state=moment.weight_opt_state,
        average=lambda tree: tree,
    )


def difference_name(epsilon: float) -> str:
    """The name of the finite difference with an ε."""
    return f"difference, ε = {epsilon:g}"


def random_directions(seed: Sequence[int], number: int, step: np.ndarray) -> np.ndarray:
    """Directions `[number, n]` of the length of a step `[n]`, uniform over the sphere."""
    drawn = np.random.default_rng(seed).normal(size=(number, step.size))
    return drawn * (np.linalg.norm(step) / np.linalg.norm(drawn, axis=1, keepdims=True))


def own_steps(
    optimizer: optax.GradientTransformation, opt_state: Any, alphas: Any, gradients: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The step of the alphas' optimiser, `[n]`, by the gradient that it gets."""
    tree_of = ravel_pytree(alphas)[1]
    steps = {}
    for name, gradient in gradients.items():
        updates, _ = optimizer.update(tree_of(jnp.asarray(gradient, jnp.float32)), opt_state, alphas)
        steps[name] = np.asarray(ravel_pytree(updates)[0], float)
    return steps


def _with_epsilon(difference: Callable[..., Any], epsilon: float, moment: Moment) -> Any:
    dtype = ravel_pytree(moment.alphas)[0].dtype
    return difference(moment, np.asarray(epsilon, dtype))


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _floats(tree: Any) -> list[Any]:
    """The floating-point leaves of a pytree: those that have cotangents."""
    return [leaf for leaf in jax.tree.leaves(tree) if _is_float(leaf)]


def _with_floats(tree: Any, floats: list[Any]) -> Any:
    left = iter(floats)
    return jax.tree.map(lambda leaf: next(left) if _is_float(leaf) else leaf, tree)


def _processor_time(function: Callable[[Moment], Any], moment: Moment) -> float:
    start = time.process_time()
    jax.block_until_ready(function(moment))
    return time.process_time() - start
