"""One step of a training as one program: augmentation, loss with auxiliary head, optimiser, running average, metrics."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from jdarts.data import Augmentation, augment, normalise
from jdarts.nets.discrete import DiscreteNetwork
from jdarts.nets.initial import from_one_draw
from jdarts.nets.narrow_weights import narrowed_together
from jdarts.ops.precision import wide_type
from jdarts.parallel import device_key, mean_over, padded_share, share_offset, sum_over
from jdarts.runs.images import Batch
from jdarts.runs.step_metrics import epoch_sums, first_not_finite, right_answers, scores
from jdarts.xla.trees import all_finite, apply_updates, global_norm

AVERAGED = ("train/loss", "train/accuracy")


@flax.struct.dataclass
class TrainState:
    """The whole state of a training, as a checkpoint stores it.

    Attributes:
      step: int32 `[]`, number of steps done.
      weights: the network's `params`.
      model_state: the network's `batch_stats`.
      optimizer_state: state of the weights' optimiser.
      average: running averages of weights and model state, `{'params': …, 'batch_stats': …}`; empty without them.
      key: key of all randomness.
      sums: sums of the metrics over the steps of the current epoch.
      not_finite_at: int32 `[]`, the first step with a loss, a gradient or a weight that is not finite; 0 if there is none.
    """

    step: jax.Array
    weights: Any
    model_state: Any
    optimizer_state: Any
    average: Any
    key: jax.Array
    sums: dict[str, jax.Array]
    not_finite_at: jax.Array


class Conditions(NamedTuple):
    """The scalars that change with the epochs, as inputs, so that one program serves every schedule.

    Attributes:
      learning_rate: float32.
      drop_path: float32, probability of a dropped path.
      starts_epoch: bool, whether this is the first step of its epoch.
    """

    learning_rate: Any
    drop_path: Any
    starts_epoch: Any


class Answers(NamedTuple):
    """What the network says of each image.

    Attributes:
      guess: int32 `[B]`, the most probable class.
      confidence: float `[B]`, its probability.
      of_label: float `[B]`, the probability of the label.
    """

    guess: jax.Array
    confidence: jax.Array
    of_label: jax.Array


class TrainProgram(NamedTuple):
    """The pure functions of one training.

    Attributes:
      init: `seed, uint32 [] -> TrainState`, the state before the first step.
      step: `(state, batch, conditions, axis_name) -> (state, metrics)`; see `jdarts.parallel`.
      evaluate: `(state, images, labels, mask, axis_name) -> ((sum of losses, number of right answers, number of labels among
        the five largest logits), Answers)` with running statistics, of the averaged weights where there are any.
    """

    init: Callable[[Any], TrainState]
    step: Callable[..., tuple[TrainState, dict[str, jax.Array]]]
    evaluate: Callable[..., tuple[tuple[jax.Array, jax.Array, jax.Array], Answers]]


def epoch_key(key: jax.Array, epoch: jax.Array) -> jax.Array:
    """The key of the order of an epoch's images."""
    return jax.random.fold_in(jax.random.fold_in(key, 0), epoch)


def network_variables(state: TrainState) -> dict[str, Any]:
    """The network's variables for evaluation: the running averages, or the weights without averages."""
    return state.average or {"params": state.weights, "batch_stats": state.model_state}


def cross_entropy(logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0) -> jax.Array:
    """Mean cross entropy between `[B, K]` logits and `(1 − s) · one-hot + s / K` of the labels `[B]`."""
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return jnp.mean(optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, label_smoothing)))


def train_program(
    model: DiscreteNetwork,
    *,
    image_shape: tuple[int, int, int],
    augmentation: Augmentation,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    optimizer: Callable[[Any], optax.GradientTransformation],
    drops_paths: bool,
    label_smoothing: float,
    auxiliary_weight: float,
    ema_decay: float,
    synchronised: bool = True,
) -> TrainProgram:
    """Builds the functions of a training on images.

    The metric `train/loss` is that of the main classifier alone; the loss that is minimised adds `auxiliary_weight`
    times that of the auxiliary head.

    Args:
      model: the network.
      image_shape: `(H, W, C)`.
      augmentation: augmentation of the training images.
      mean: per channel, on the scale 0..1.
      std: per channel, on the scale 0..1.
      optimizer: the weights' optimiser at a learning rate.
      drops_paths: whether paths are dropped.
      label_smoothing: share of a label that is spread evenly over all classes.
      auxiliary_weight: weight of the auxiliary head's loss.
      ema_decay: decay of a running average of the weights; 0 for none.
      synchronised: whether several devices use the batch statistics of the whole batch.
    """
    dtype = wide_type(model.dtype)

    @from_one_draw
    def variables_of(key: jax.Array) -> dict[str, Any]:
        images = jnp.zeros((1, *image_shape), dtype)
        made = model.init({"params": key, "noise": key}, images, train=False)
        return {"params": {}, "batch_stats": {}} | dict(made)

    def init(seed: Any) -> TrainState:
        weight_key, key = jax.random.split(jax.random.key(seed))
        variables = variables_of(weight_key)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            weights=variables["params"],
            model_state=variables["batch_stats"],
            optimizer_state=optimizer(0.0).init(variables["params"]),
            average=variables if ema_decay else {},
            key=key,
            sums={name: jnp.zeros((), jnp.float32) for name in AVERAGED},
            not_finite_at=jnp.zeros((), jnp.int32),
        )

    def loss(
        weights: Any,
        model_state: Any,
        images: jax.Array,
        labels: jax.Array,
        drop_path: Any,
        key: jax.Array,
        axis_name: str | None,
    ) -> tuple[jax.Array, tuple[Any, dict[str, jax.Array]]]:
        # The operation `noise` has a different key on each device; paths are dropped as on one device.
        keys = jax.random.split(key)
        statistics_axis = axis_name if synchronised else None
        network = model.clone(axis_name=statistics_axis, batch_axis=axis_name)
        (logits, auxiliary), changed = network.apply(
            {"params": narrowed_together(weights, model.dtype), "batch_stats": model_state},
            images,
            train=True,
            drop_path=drop_path if drops_paths else 0.0,
            mutable=["batch_stats"],
            rngs={"drop_path": keys[0], "noise": device_key(keys[1], axis_name)},
        )
        main = cross_entropy(logits, labels, label_smoothing=label_smoothing)
        accuracy = jnp.mean(right_answers(logits, labels).astype(logits.dtype))
        metrics = {"train/loss": main, "train/accuracy": accuracy}
        total = main
        if auxiliary is not None:
            second = cross_entropy(auxiliary, labels, label_smoothing=label_smoothing)
            metrics["train/auxiliary_loss"] = second
            total += auxiliary_weight * second
        return total, (changed["batch_stats"], metrics)

    def step(
        state: TrainState, batch: Batch, conditions: Conditions, *, axis_name: str | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(state.key, 1), state.step))
        first = share_offset(batch.rows.shape[0], axis_name)
        images = augment(keys[0], batch.images[batch.rows], augmentation, mean=mean, std=std, first=first, dtype=dtype)
        (total, (model_state, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(
            state.weights, state.model_state, images, batch.labels[batch.rows], conditions.drop_path, keys[1], axis_name
        )
        total, model_state, metrics, gradient = mean_over((total, model_state, metrics, gradient), axis_name)
        updates, optimizer_state = optimizer(conditions.learning_rate).update(
            gradient, state.optimizer_state, state.weights
        )
        weights = apply_updates(state.weights, updates)
        norm = global_norm(gradient)
        done = state.step + 1
        finite = all_finite((total, norm, weights, model_state))
        new = TrainState(
            step=done,
            weights=weights,
            model_state=model_state,
            optimizer_state=optimizer_state,
            average=averaged(state.average, {"params": weights, "batch_stats": model_state}, done, decay=ema_decay),
            key=state.key,
            sums=epoch_sums(state.sums, metrics, starts_epoch=conditions.starts_epoch),
            not_finite_at=first_not_finite(state.not_finite_at, finite, done),
        )
        metrics |= {"weights/gradient_norm": norm, "learning_rate": conditions.learning_rate}
        return new, metrics | {"drop_path": conditions.drop_path}

    def evaluate(
        state: TrainState, images: jax.Array, labels: jax.Array, mask: jax.Array, *, axis_name: str | None = None
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Answers]:
        logits, _ = model.apply(
            network_variables(state),
            normalise(images, mean=mean, std=std, dtype=dtype),
            train=False,
            rngs={"noise": state.key},
        )
        loss, right = scores(logits, labels, mask)
        larger = jnp.sum(logits > jnp.take_along_axis(logits, labels[:, None], axis=-1), axis=-1)
        own = jax.tree.map(functools.partial(padded_share, axis_name=axis_name), _answers(logits, labels))
        return sum_over(((loss, right, jnp.sum(mask & (larger < 5))), own), axis_name)

    return TrainProgram(init, step, evaluate)


def _answers(logits: jax.Array, labels: jax.Array) -> Answers:
    """What logits `[B, K]` say of images with labels `[B]`."""
    probabilities = jax.nn.softmax(logits)
    of_label = jnp.take_along_axis(probabilities, labels[:, None], axis=-1)[:, 0]
    return Answers(jnp.argmax(logits, axis=-1).astype(jnp.int32), jnp.max(probabilities, axis=-1), of_label)


def averaged(average: Any, latest: Any, step: jax.Array, *, decay: float) -> Any:
    """Running averages: `average + (1 − d) · (latest − average)`, with a smaller d while the average is of few steps.

    Args:
      average: the averages so far; empty for none.
      latest: a pytree of the same structure.
      step: number of steps done.
      decay: d.
    """
    if not average:
        return average
    steps = step.astype(jnp.float32)
    share = 1 - jnp.minimum(decay, (1 + steps) / (10 + steps))
    return jax.tree.map(lambda old, new: old + share.astype(old.dtype) * (new - old), average, latest)
