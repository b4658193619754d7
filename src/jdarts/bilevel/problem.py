"""The bilevel problem of one step, and the result of an estimator of its hypergradient."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import optax

PyTree = Any
Metrics = Mapping[str, Any]


class LossFn(Protocol):
    """A loss of weights and alphas on one batch.

    Takes weights, alphas, model state (batch statistics and the like), a batch and a key; returns the scalar loss and a
    pair of the new model state and a dict of metrics. Training and validation losses are the same function on different
    batches.
    """

    def __call__(
        self, weights: PyTree, alphas: PyTree, model_state: PyTree, batch: PyTree, key: jax.Array, /
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        """Evaluates the loss."""
        ...


class Problem(NamedTuple):
    """One step's problem, as an estimator sees it: batches, keys and model state are bound.

    Attributes:
      weights: `w`.
      alphas: `α`.
      train_loss: `L_train(w, α)`, a scalar. Every call sees the same batch, key and model state.
      valid_loss: `L_val(w, α)` and its metrics.
      weight_optimizer: the optimiser that makes the next weight step.
      weight_opt_state: its state before that step.
      average: the mean over devices of a pytree; the identity on one device.
      later_train_losses: as `train_loss`, those of the weight steps after the first, each with its own batch and key.
    """

    weights: PyTree
    alphas: PyTree
    train_loss: Callable[[PyTree, PyTree], jax.Array]
    valid_loss: Callable[[PyTree, PyTree], tuple[jax.Array, Metrics]]
    weight_optimizer: optax.GradientTransformation
    weight_opt_state: optax.OptState
    average: Callable[[PyTree], PyTree]
    later_train_losses: tuple[Callable[[PyTree, PyTree], jax.Array], ...] = ()


class Estimate(NamedTuple):
    """The result of an estimator.

    Attributes:
      gradient: estimate of `d/dα L_val(w′(α), α)`, a pytree like the alphas, the mean over devices.
      valid_loss: `L_val(w′, α)`, a scalar of this device.
      metrics: metrics of the loss on the validation batch.
      diagnostics: further scalars of the estimator, by name.
    """

    gradient: PyTree
    valid_loss: jax.Array
    metrics: Metrics
    diagnostics: Metrics


HypergradientFn = Callable[[Problem], Estimate]
