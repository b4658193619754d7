"""One step of a training on text, and the end of an epoch: NT-ASGD's averages and the return to the best weights."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from jdarts import optimizers
from jdarts.language.token_streams import StreamPosition, advance, next_segment, start_of_stream
from jdarts.language.train.config import LanguageTrainConfig
from jdarts.nets.initial import from_one_draw
from jdarts.nets.language import LanguageModel, draw_masks, mean_loss, regularisation
from jdarts.nets.language_loss import Segment, losses_of, share_of_segment
from jdarts.parallel import mean_over, padded_share, sum_over
from jdarts.runs.step_metrics import epoch_sums, first_not_finite
from jdarts.xla.trees import all_finite, apply_updates

AVERAGED = ("train/loss",)


class TrainState(flax.struct.PyTreeNode):
    """The whole state of a training, as a checkpoint stores it.

    Attributes:
      step: int32 `[]`, number of steps done.
      weights: the network's `params`.
      optimizer_state: of the weights' optimiser; it begins again where the weights go back to the best ones.
      average: mean of the weights over the steps since averaging began; the weights themselves before that.
      averaged: int32 `[]`, number of those steps.
      averaging: bool `[]`, whether weights are averaged.
      reading: position in the training text.
      key: key of the dropout masks.
      best: the weights with the lowest validation loss, averaged or not.
      best_loss: float32 `[]`, their validation loss; infinite before the first evaluation.
      recent: float32 `[patience]`, validation losses of the last epochs, infinite before the first.
      lowest: float32 `[]`, the lowest of all losses before those.
      returns: int32 `[]`, how often the weights have returned to the best ones.
      sums: sums of the metrics over the steps of the current epoch.
      not_finite_at: int32 `[]`, the step with a value that is not finite after the last return that is allowed; 0 if there is
        none.
    """

    step: jax.Array
    weights: Any
    optimizer_state: Any
    average: Any
    averaged: jax.Array
    averaging: jax.Array
    reading: StreamPosition
    key: jax.Array
    best: Any
    best_loss: jax.Array
    recent: jax.Array
    lowest: jax.Array
    returns: jax.Array
    sums: dict[str, jax.Array]
    not_finite_at: jax.Array


class TrainProgram(NamedTuple):
    """The pure functions of one training.

    Attributes:
      model: the network.
      init: `seed, uint32 [] -> TrainState`.
      step: `(state, words, length, starts_epoch, size=…, axis_name) -> (state, metrics)`; `words` of a
        `TokenStream`, `size` the static number of rows of the compiled segment, `length` at most that. Each of several devices
        gets all inputs and uses its share of the columns; see `jdarts.parallel`.
      end_epoch: `(state, validation loss) -> TrainState`.
    """

    model: nn.Module
    init: Callable[[Any], TrainState]
    step: Callable[..., tuple[TrainState, dict[str, jax.Array]]]
    end_epoch: Callable[[TrainState, Any], TrainState]


def train_program(
    config: LanguageTrainConfig,
    *,
    vocabulary: int,
    rows: int,
    model: nn.Module | None = None,
    state_width: int | None = None,
    dtype: Any = jnp.float32,
) -> TrainProgram:
    """Builds the functions of a training on text.

    Args:
      config: the settings.
      vocabulary: rows of the embedding table.
      rows: rows of the training text, in columns.
      model: a network that is called as a `LanguageModel` is; by default that of the configured cell.
      state_width: size of one of its hidden states; by default the configured width.
      dtype: type of weights and computation.
    """
    model = model or LanguageModel(config.cell, vocabulary, config.width, dtype)

    def optimizer(learning_rate: Any) -> optax.GradientTransformation:
        return optimizers.recurrent_weight_optimizer(learning_rate, **dataclasses.asdict(config.weights))

    reading = start_of_stream(config.batches.batch_size, state_width or config.width, dtype)

    @from_one_draw
    def weights_of(key: jax.Array) -> Any:
        words = jnp.zeros((1, config.batches.batch_size), jnp.int32)
        return model.init(key, words, reading.hidden, train=True)["params"]

    def init(seed: jax.Array) -> TrainState:
        weight_key, key = jax.random.split(jax.random.key(seed))
        weights = weights_of(weight_key)
        zero, infinite = jnp.zeros((), jnp.int32), jnp.full((), jnp.inf, jnp.float32)
        return TrainState(
            step=zero,
            weights=weights,
            optimizer_state=optimizer(config.learning_rate).init(weights),
            average=weights,
            averaged=zero,
            averaging=jnp.zeros((), jnp.bool),
            reading=reading,
            key=key,
            best=weights,
            best_loss=infinite,
            recent=jnp.full((config.patience,), jnp.inf, jnp.float32),
            lowest=infinite,
            returns=zero,
            sums={name: jnp.zeros((), jnp.float32) for name in AVERAGED},
            not_finite_at=zero,
        )

    def step(
        state: TrainState,
        words: jax.Array,
        length: jax.Array,
        starts_epoch: jax.Array,
        *,
        size: int,
        axis_name: str | None = None,
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        piece = next_segment(state.reading, words, length, size=size, rows=rows)
        masks = draw_masks(
            jax.random.fold_in(state.key, state.step),
            config.dropped.rates,
            vocabulary=vocabulary,
            batch=config.batches.batch_size,
            width=config.width,
            dtype=dtype,
        )
        own = share_of_segment(
            Segment(piece.inputs, piece.targets, state.reading.hidden, piece.length, masks), axis_name
        )

        def loss(weights: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            prediction: Any = model.apply(
                {"params": weights}, own.tokens, own.hidden, train=True, masks=own.masks, length=own.length
            )
            nll = mean_loss(losses_of(prediction, weights, own), own.length)
            penalty = regularisation(
                prediction,
                activation=config.penalties.activation,
                temporal=config.penalties.temporal,
                length=own.length,
            )
            return nll + penalty, (nll, prediction.hidden)

        (total, (nll, hidden)), gradient = jax.value_and_grad(loss, has_aux=True)(state.weights)
        total, nll, gradient = mean_over((total, nll, gradient), axis_name)
        hidden = sum_over(padded_share(hidden, axis_name), axis_name)
        rate = config.learning_rate * piece.length.astype(jnp.float32) / config.batches.bptt
        updates, optimizer_state = optimizer(rate).update(gradient, state.optimizer_state, state.weights)
        weights = apply_updates(state.weights, updates)
        norm = optax.tree.norm(gradient)
        finite = all_finite((total, norm, weights, optimizer_state, hidden))

        def keep_if_finite(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)

        done = state.step + 1
        averaged = jnp.where(state.averaging, jnp.where(finite, state.averaged + 1, 1), 0).astype(jnp.int32)
        new_weights = keep_if_finite(weights, state.best)
        metrics = {"train/loss": nll, "train/penalty": total - nll}
        returns = state.returns + (~finite).astype(jnp.int32)
        after = advance(state.reading, piece.length, hidden, rows=rows)
        new = state.replace(
            step=done,
            weights=new_weights,
            optimizer_state=keep_if_finite(optimizer_state, optimizer(rate).init(new_weights)),
            average=_running_mean(state.average, new_weights, averaged),
            averaged=averaged,
            reading=StreamPosition(after.row, keep_if_finite(after.hidden, jnp.zeros_like(hidden))),
            returns=returns,
            sums=epoch_sums(
                state.sums, keep_if_finite(metrics, jax.tree.map(jnp.zeros_like, metrics)), starts_epoch=starts_epoch
            ),
            not_finite_at=first_not_finite(state.not_finite_at, returns <= config.rollbacks, done),
        )
        metrics |= {"weights/gradient_norm": norm, "learning_rate": rate}
        metrics |= {"returns": returns, "averaged_steps": averaged}
        return new, metrics

    return TrainProgram(model, init, step, end_epoch)


def evaluated_weights(state: TrainState) -> Any:
    """The weights for evaluation: the averages, which equal the weights before averaging begins."""
    return state.average


def end_epoch(state: TrainState, loss: jax.Array) -> TrainState:
    """Records an epoch's validation loss: updates the best weights, and may begin averaging.

    NT-ASGD (Merity et al. 2018): averaging begins when the loss is higher than the lowest one that lies more than
    `patience` epochs back; it never ends.

    Args:
      state: the state after an epoch.
      loss: float32 `[]`, validation loss of `evaluated_weights`; one that is not finite is never the best.
    """
    better = loss < state.best_loss
    return state.replace(
        best=jax.tree.map(lambda new, old: jnp.where(better, new, old), evaluated_weights(state), state.best),
        best_loss=jnp.where(better, loss, state.best_loss),
        averaging=state.averaging | (loss > state.lowest),
        lowest=jnp.minimum(state.lowest, state.recent[0]),
        recent=jnp.concatenate([state.recent[1:], loss[None]]),
    )


def _running_mean(average: Any, latest: Any, count: jax.Array) -> Any:
    """The mean of `count` weights from the mean of all but the latest; the latest itself if `count` is 0 or 1."""
    share = 1 / jnp.maximum(count, 1).astype(jnp.float32)
    return jax.tree.map(
        lambda old, new: jnp.where(count <= 1, new, old + share.astype(old.dtype) * (new - old)), average, latest
    )
