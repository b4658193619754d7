"""Optimisers of weights by name, the alphas' optimiser, and schedules, as optax chains; the defaults are the paper's."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jdarts.xla.trees import as_vector, finished, sum_of_squares


def cosine(start: float, end: float, *, epochs: int) -> np.ndarray:
    """A cosine over epochs, `end + (start − end)·(1 + cos(π·epoch/epochs))/2`, in double precision.

    Args:
      start: value in the first epoch.
      end: value after the last epoch.
      epochs: number of epochs.

    Returns:
      `[epochs + 1]`, the values in each epoch and after the last.
    """
    return end + (start - end) * (1 + np.cos(np.pi * np.arange(epochs + 1) / epochs)) / 2


def epoch_cosine(
    start: float, end: float, *, epochs: int, steps_per_epoch: int, first_epoch: int = 0
) -> optax.Schedule:
    """The values of `cosine` as a function of the step; they change once an epoch.

    Args:
      start: value in the first epoch.
      end: the value that the cosine would reach after the last epoch.
      epochs: number of epochs.
      steps_per_epoch: steps of an epoch.
      first_epoch: the epoch of step 0.
    """
    value = cosine_of_epoch(start, end, epochs=epochs, first_epoch=first_epoch)
    return lambda step: value(jnp.asarray(step) // steps_per_epoch)


def cosine_of_epoch(start: float, end: float, *, epochs: int, first_epoch: int = 0) -> Callable[[jax.Array], jax.Array]:
    """The values of `cosine` as a function of the number of epochs since `first_epoch`; arguments as for `epoch_cosine`."""
    # A table in double precision: the formula loses digits in float32 where the cosine nears −1.
    values = cosine(start, end, epochs=epochs)[first_epoch:]
    return lambda epoch: jnp.asarray(values, dtype=float)[jnp.minimum(epoch, epochs - first_epoch)]


class NamedOptimizer(NamedTuple):
    """What follows the clipping of a gradient in an optimiser of weights.

    Attributes:
      make: `(learning_rate, weight_decay, **settings) -> the parts of a chain`.
      settings: names of the settings that it takes beside the two.
      most: the largest learning rate that makes sense.
    """

    make: Callable[..., tuple[optax.GradientTransformation, ...]]
    settings: tuple[str, ...]
    most: float = float("inf")


def _sgd(
    learning_rate: optax.ScalarOrSchedule, weight_decay: float, *, momentum: float | None, nesterov: bool
) -> tuple[optax.GradientTransformation, ...]:
    """Decay is added to the gradient, and goes through the momentum; no momentum needs no state."""
    return optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum=momentum, nesterov=nesterov)


def _adamw(
    learning_rate: optax.ScalarOrSchedule, weight_decay: float, *, b1: float, b2: float
) -> tuple[optax.GradientTransformation, ...]:
    """Decay is added to the step that Adam makes of the gradient, and is scaled by the learning rate."""
    return (optax.adamw(learning_rate, b1=b1, b2=b2, weight_decay=weight_decay),)


Optimizer = Literal["sgd", "adamw"]

#: The optimisers of weights.
OPTIMIZERS: Mapping[str, NamedOptimizer] = {
    "sgd": NamedOptimizer(_sgd, ("momentum", "nesterov")),
    # Adam moves every weight by about the learning rate.
    "adamw": NamedOptimizer(_adamw, ("b1", "b2"), most=1.0),
}


def _named(name: str, learning_rate: optax.ScalarOrSchedule, weight_decay: float, **settings: Any) -> Any:
    chosen = OPTIMIZERS[name]
    return chosen.make(learning_rate, weight_decay, **{each: settings[each] for each in chosen.settings})


def weight_optimizer(
    learning_rate: optax.ScalarOrSchedule,
    *,
    optimizer: Optimizer = "sgd",
    momentum: float = 0.9,
    nesterov: bool = False,
    b1: float = 0.9,
    b2: float = 0.999,
    weight_decay: float = 3e-4,
    clip: float | None = 5.0,
) -> optax.GradientTransformation:
    """An optimiser of the weights of convolutional cells: gradients are clipped by their global norm first.

    The state has the same structure whatever `clip` is, so that the optimiser without it can make the virtual step of
    the one with it.

    Args:
      learning_rate: number, scalar array or schedule; it multiplies outside the momentum buffer.
      optimizer: name of the optimiser.
      momentum: decay of the buffer of sgd.
      nesterov: whether sgd has Nesterov's momentum: it steps along the sum of the gradient and the decayed buffer.
      b1: decay of the first moment of adamw.
      b2: decay of the second moment of adamw.
      weight_decay: penalty on the weights: for sgd L2, added to the clipped gradient; for adamw decoupled.
      clip: largest global norm of a gradient; None for no clipping.
    """
    return as_vector(
        optax.chain(
            optax.identity() if clip is None else _stateless(lambda gradient: _clipped_to(clip, gradient)),
            *_named(optimizer, learning_rate, weight_decay, momentum=momentum, nesterov=nesterov, b1=b1, b2=b2),
        )
    )


def restarted(optimizer: optax.GradientTransformation, state: Any, weights: Any) -> Any:
    """The state of an optimiser before its first step, except that its schedule continues where it is.

    Args:
      optimizer: the optimiser.
      state: its present state.
      weights: the weights.
    """

    def is_schedule(part: Any) -> bool:
        return isinstance(part, optax.ScaleByScheduleState)

    return jax.tree.map(
        lambda fresh, present: present if is_schedule(fresh) else fresh,
        optimizer.init(weights),
        state,
        is_leaf=is_schedule,
    )


def constant_after(schedule: optax.Schedule, steps: int, value: float) -> optax.Schedule:
    """A schedule that has one value from a step on.

    Args:
      schedule: the rate before that.
      steps: the first step with the constant.
      value: the constant.
    """

    def rate(step: Any) -> jax.Array:
        before = jnp.asarray(schedule(step))
        return jnp.where(jnp.asarray(step) < steps, before, jnp.asarray(value, before.dtype))

    return rate


Virtual = Literal["exact", "constant", "reference"]


def recurrent_weight_optimizer(
    learning_rate: Any,
    *,
    optimizer: Optimizer = "sgd",
    momentum: float = 0.0,
    nesterov: bool = False,
    b1: float = 0.9,
    b2: float = 0.999,
    weight_decay: float = 5e-7,
    clip: float = 0.25,
    virtual: Virtual = "exact",
) -> optax.GradientTransformation:
    """An optimiser of the weights of recurrent networks: clip by the global norm, add decay, step.

    The reference code's (rnn/architect.py) is SGD without momentum, which has no state.

    `virtual` decides what derivatives through the step are, not the step itself, so that one of them can be the
    `virtual_optimizer=` of an estimator beside any other as the weight optimiser:

    * `exact`: those of the step.
    * `constant`: those of the step with the clip coefficient `min(1, clip / (‖g‖ + 1e-6))` held constant.
    * `reference`: what the reference implementation computes. The coefficient is held constant, and is not limited to 1 where
      nothing is clipped; the gradient of the validation loss that is pulled back is clipped by the same rule.

    Args:
      learning_rate: a number, or an array `[]` that may depend on the step, as the paper's does on a segment's length.
      optimizer: name of the optimiser.
      momentum: decay of the buffer of sgd.
      nesterov: whether sgd has Nesterov's momentum: it steps along the sum of the gradient and the decayed buffer.
      b1: decay of the first moment of adamw.
      b2: decay of the second moment of adamw.
      weight_decay: penalty on the weights: for sgd L2, added to the clipped gradient; for adamw decoupled.
      clip: largest global norm of a gradient.
      virtual: derivatives of the step.
    """
    return optax.chain(
        _stateless(lambda gradient: _clipped(gradient, clip, virtual)),
        *_named(optimizer, learning_rate, weight_decay, momentum=momentum or None, nesterov=nesterov, b1=b1, b2=b2),
        _stateless(lambda update: _with_clipped_cotangent(update, clip) if virtual == "reference" else update),
    )


def _stateless(function: Any) -> optax.GradientTransformation:
    return optax.stateless(lambda updates, _: function(updates))


def _coefficient(gradient: Any, clip: float) -> jax.Array:
    squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient)]
    return clip / (jnp.sqrt(sum(squares[1:], squares[0])) + 1e-6)


def _clipped_to(clip: float, gradient: Any) -> Any:
    """The gradient, scaled down to a norm of `clip` where it is longer; a zero gradient has derivatives too."""
    return _scaled(finished(gradient), clip / jnp.sqrt(jnp.maximum(sum_of_squares(gradient), clip**2)))


def _scaled(tree: Any, factor: jax.Array) -> Any:
    return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), tree)


def _clipped(gradient: Any, clip: float, virtual: Virtual) -> Any:
    coefficient = _coefficient(gradient, clip)
    capped = jnp.minimum(coefficient, jnp.ones_like(coefficient))
    if virtual == "exact":
        return _scaled(gradient, capped)
    if virtual == "constant":
        return _scaled(gradient, jax.lax.stop_gradient(capped))

    @jax.custom_vjp
    def scale(gradient: Any, forwards: jax.Array, backwards: jax.Array) -> Any:
        del backwards
        return _scaled(gradient, forwards)

    scale.defvjp(
        lambda gradient, forwards, backwards: (_scaled(gradient, forwards), backwards),
        lambda backwards, cotangent: (
            _scaled(cotangent, backwards),
            jnp.zeros_like(backwards),
            jnp.zeros_like(backwards),
        ),
    )
    return scale(gradient, capped, coefficient)


def _with_clipped_cotangent(tree: Any, clip: float) -> Any:
    @jax.custom_vjp
    def identity(tree: Any) -> Any:
        return tree

    def backward(_: None, cotangent: Any) -> tuple[Any]:
        coefficient = _coefficient(cotangent, clip)
        return (_scaled(cotangent, jnp.minimum(coefficient, jnp.ones_like(coefficient))),)

    identity.defvjp(lambda tree: (tree, None), backward)
    return identity(tree)


AlphaOptimizer = Literal["adam", "sgd"]


def alpha_optimizer(
    learning_rate: float = 3e-4,
    *,
    optimizer: AlphaOptimizer = "adam",
    b1: float = 0.5,
    b2: float = 0.999,
    weight_decay: float = 1e-3,
) -> optax.GradientTransformation:
    """Adam or plain SGD with an L2 penalty inside: it is added to the gradient before the moments are taken (not AdamW).

    Args:
      learning_rate: constant step size.
      optimizer: name of the optimiser; sgd has no momentum.
      b1: decay of the first moment of adam; the paper's 0.5 for convolutional cells.
      b2: decay of the second moment of adam.
      weight_decay: L2 penalty.
    """
    step = optax.adam(learning_rate, b1=b1, b2=b2) if optimizer == "adam" else optax.sgd(learning_rate)
    return optax.chain(optax.add_decayed_weights(weight_decay), step)
