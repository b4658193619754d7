"""The losses of a step with a method: from the loss of a network at given mixture weights to losses of alphas."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jdarts.bilevel import LossFn
from jdarts.methods.method import Method
from jdarts.methods.weight_losses import WeightPass
from jdarts.parallel import mean_over
from jdarts.relaxation import Controls, MixtureWeights, Space


class Losses(NamedTuple):
    """The losses of a step. Their batches are `(examples, key of the mixture)`, a key that the devices share.

    Attributes:
      loss_fn: of the alphas, and of the weights where they have no other.
      weight_loss_fn: of the weights' step; None for `loss_fn`.
    """

    loss_fn: LossFn
    weight_loss_fn: LossFn | None


def method_losses(
    method: Method,
    given: LossFn,
    evaluated: LossFn,
    *,
    space: Space,
    kinds: Sequence[str],
    controls: Controls,
    axis_name: str | None,
) -> Losses:
    """The losses of a step with a method.

    Args:
      method: the method.
      given: the loss in training mode, as a function of `MixtureWeights` in place of alphas.
      evaluated: the same with running statistics.
      space: the search space.
      kinds: the kind of each cell of the network.
      controls: numbers of the epoch.
      axis_name: a mapped axis of devices.
    """
    cells = {kind: list(kinds).count(kind) for kind in kinds}

    def mixture(alphas: Any, key: jax.Array | None) -> MixtureWeights:
        return method.mixture.weights(alphas, space, key, controls)

    def loss_fn(weights: Any, alphas: Any, model_state: Any, batch: Any, key: jax.Array) -> Any:
        examples, mixture_key = batch
        return given(weights, mixture(alphas, mixture_key), model_state, examples, key)

    def weight_loss_fn(weights: Any, alphas: Any, model_state: Any, batch: Any, key: jax.Array) -> Any:
        examples, mixture_key = batch

        def loss(weights: Any, mixture: MixtureWeights) -> Any:
            return given(weights, mixture, model_state, examples, key)

        def evaluation_loss(weights: Any, mixture: MixtureWeights) -> jax.Array:
            return evaluated(weights, mixture, model_state, examples, key)[0]

        assert method.weight_loss is not None
        return method.weight_loss(
            WeightPass(
                loss=loss,
                evaluation_loss=evaluation_loss,
                weights=weights,
                mixture=jax.lax.stop_gradient(mixture(alphas, mixture_key)),
                cells=cells,
                space=space,
                controls=controls,
                key=mixture_key,
                average=lambda tree: mean_over(tree, axis_name),
            )
        )

    return Losses(loss_fn, None if method.weight_loss is None else weight_loss_fn)


def with_own_key(loss_fn: LossFn) -> LossFn:
    """The same loss of batches `(examples, key)`, whose key takes the place of that of `bilevel_step`."""

    def loss(weights: Any, alphas: Any, model_state: Any, batch: Any, key: jax.Array) -> Any:
        del key
        examples, own = batch
        return loss_fn(weights, alphas, model_state, examples, own)

    return loss


def draws_mixture(method: Method) -> bool:
    """Whether a step of the method needs keys for the mixture."""
    return method.mixture.random or method.weight_loss is not None
