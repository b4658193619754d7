"""The loss of a language model on a segment of text, for `bilevel_step` and for plain training."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jdarts.bilevel import Estimate, HypergradientFn, LossFn, Problem
from jdarts.nets.language import LanguageModel, Masks, Prediction, mean_loss, output_losses, regularisation
from jdarts.nets.layers import NOISE_STREAM
from jdarts.parallel import device_count, padded_share, share
from jdarts.relaxation import NO_CONTROLS, Controls
from jdarts.space import RecurrentSpace


class Segment(NamedTuple):
    """The batch of a language model's loss: a segment of text.

    Attributes:
      tokens: words, integers `[T, B]`.
      targets: the words to predict, integers `[T, B]`.
      hidden: `[B, H]`, the hidden state before the segment.
      length: words before the padding, int32 `[]`; None for all `T`.
      masks: dropout masks, the same for every pass on the segment.
      activation: coefficient of activation regularisation, `[]`.
      temporal: coefficient of temporal activation regularisation, `[]`.
    """

    tokens: jax.Array
    targets: jax.Array
    hidden: jax.Array
    length: jax.Array | None = None
    masks: Masks = Masks()
    activation: jax.Array | float = 0.0
    temporal: jax.Array | float = 0.0


def language_loss(
    model: LanguageModel, *, train: bool = True, axis_name: str | None = None, controls: Controls = NO_CONTROLS
) -> LossFn:
    """The loss of a language model: mean negative log-likelihood in nats, plus the regularisation of the segment.

    Batches are `Segment`s; only a random mixture uses the key: dropout is in the segment's masks. The model state is the
    network's `batch_stats`, `{}` for a discrete cell, whose alphas are None. Metrics are `nll`, the loss without regularisation,
    and `hidden` `[B, H]`, the last hidden state; after a `bilevel_step` they are `train/hidden` and `valid/hidden`.

    Args:
      model: the network.
      train: as for the network.
      axis_name: a mapped axis over which the columns are spread. Each device gets whole segments and uses its share of the
        columns. The mean of `hidden` over the devices, which `bilevel_step` computes for all metrics, has all columns.
      controls: numbers of the epoch, for the mixture.
    """
    searched = isinstance(model.cell, RecurrentSpace)

    def loss_fn(weights: Any, alphas: Any, model_state: Any, batch: Segment, key: jax.Array) -> Any:
        batch = share_of_segment(batch, axis_name)
        variables = {"params": weights, "batch_stats": model_state} if searched else {"params": weights}
        inputs = (variables, batch.tokens, batch.hidden, alphas)
        rngs = {NOISE_STREAM: key} if model.mixture.random else {}
        prediction, changed = model.apply(
            *inputs,
            train=train,
            masks=batch.masks,
            length=batch.length,
            mutable=["batch_stats"],
            rngs=rngs,
            controls=controls,
        )
        nll = mean_loss(losses_of(prediction, weights, batch), batch.length)
        extra = regularisation(prediction, activation=batch.activation, temporal=batch.temporal, length=batch.length)
        metrics = {"nll": nll, "hidden": device_count(axis_name) * padded_share(prediction.hidden, axis_name)}
        return nll + extra, (changed.get("batch_stats", {}), metrics)

    return loss_fn


def losses_of(prediction: Prediction, weights: Any, segment: Segment) -> jax.Array:
    """The losses `[T, B]` of a prediction, from the outputs and the weights `embedding` and `bias`; its logits are not used."""
    return output_losses(
        prediction.outputs, segment.masks.output, weights["embedding"], weights["bias"], segment.targets
    )


def share_of_segment(segment: Segment, axis_name: str | None) -> Segment:
    """A device's columns of a segment and of its masks, which do not depend on the number of devices."""
    if axis_name is None:
        return segment
    tokens, targets = share((segment.tokens, segment.targets), axis_name, axis=1)
    embedding = segment.masks.embedding
    masks = share(segment.masks._replace(embedding=None), axis_name)._replace(embedding=embedding)
    return segment._replace(tokens=tokens, targets=targets, hidden=share(segment.hidden, axis_name), masks=masks)


def without_regularisation(
    hypergradient: HypergradientFn, *, loss_fn: LossFn, model_state: Any, train: Segment
) -> HypergradientFn:
    """An estimator that uses the training loss without regularisation, as in the reference implementation.

    There the virtual step and the products come from the plain log-likelihood; only the weight step is regularised.

    Args:
      hypergradient: the estimator.
      loss_fn: the loss, from `language_loss`.
      model_state: the model state before the step.
      train: the training segment of the step.
    """
    plain = train._replace(activation=0.0, temporal=0.0)

    def estimate(problem: Problem) -> Estimate:
        def train_loss(weights: Any, alphas: Any) -> jax.Array:
            # The loss has no use for a key.
            return loss_fn(weights, alphas, model_state, plain, jnp.zeros((), jnp.uint32))[0]

        return hypergradient(problem._replace(train_loss=train_loss))

    return estimate
