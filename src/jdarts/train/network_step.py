"""One step of the training of the user's own network as one program, and the programs around it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jdarts.choice.variables import PARAMS
from jdarts.network_tasks.batches import one_example
from jdarts.network_tasks.calling import drawn, mode, on_axis, streams
from jdarts.network_tasks.task import LOSS, NetworkTask, listed_scores
from jdarts.parallel import device_key, mean_over
from jdarts.runs.step_metrics import epoch_sums, first_not_finite
from jdarts.train.step import TrainState, averaged
from jdarts.xla.trees import all_finite, apply_updates, global_norm


class NetworkTrainProgram(NamedTuple):
    """The pure functions of one training.

    Attributes:
      init: `seed, uint32 [] -> TrainState`.
      step: `(state, batch, learning rate, whether it starts an epoch, axis_name) -> (state, metrics)`; see `jdarts.parallel`.
      evaluate: `(state, batch, count, axis_name) -> [numbers]`, loss and metrics of a batch in evaluation mode, of the averaged
        weights where there are any, in the order of `names` and times a count.
      names: of the loss and of the metrics.
    """

    init: Callable[[Any], TrainState]
    step: Callable[..., tuple[TrainState, dict[str, jax.Array]]]
    evaluate: Callable[..., jax.Array]
    names: tuple[str, ...]


def network_train_program(
    network: nn.Module,
    task: NetworkTask,
    shapes: Any,
    *,
    optimizer: Callable[[Any], optax.GradientTransformation],
    ema_decay: float,
    synchronised: bool = True,
) -> NetworkTrainProgram:
    """Builds the functions of a training.

    Args:
      network: the network.
      task: loss and metrics.
      shapes: shapes and types of a batch.
      optimizer: the weights' optimiser at a learning rate.
      ema_decay: decay of a running average of the weights; 0 for none.
      synchronised: whether several devices use the batch statistics of the whole batch.
    """

    def new_variables(key: jax.Array, batch: Any) -> dict[str, Any]:
        inputs, _ = task.parts(batch)
        return {PARAMS: {}} | dict(network.init({"params": key, "dropout": key}, *inputs, **mode(network, train=False)))

    drawn_variables = drawn(network, lambda key: new_variables(key, one_example(shapes)))

    def scored(
        variables: dict[str, Any], batch: Any, key: jax.Array, *, train: bool, axis_name: str | None
    ) -> tuple[jax.Array, tuple[dict[str, Any], dict[str, jax.Array]]]:
        inputs, targets = task.parts(batch)
        of_axis: Any = on_axis(network, axis_name if synchronised else None)
        mutable = [name for name in variables if name != PARAMS] if train else []
        outputs, changed = of_axis.apply(
            variables, *inputs, mutable=mutable, rngs=streams(key), **mode(network, train=train)
        )
        loss, metrics = task.scores(outputs, targets)
        return loss, ({name: changed.get(name, variables[name]) for name in mutable}, metrics)

    names = (LOSS, *_metrics_of(new_variables, scored, shapes))
    averages = [f"train/{name}" for name in names]

    def init(seed: Any) -> TrainState:
        weight_key, key = jax.random.split(jax.random.key(seed))
        variables = drawn_variables(weight_key)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            weights=variables[PARAMS],
            model_state=_without_weights(variables),
            optimizer_state=optimizer(0.0).init(variables[PARAMS]),
            average=variables if ema_decay else {},
            key=key,
            sums={name: jnp.zeros((), jnp.float32) for name in averages},
            not_finite_at=jnp.zeros((), jnp.int32),
        )

    def step(
        state: TrainState, batch: Any, rate: jax.Array, starts_epoch: jax.Array, *, axis_name: str | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        key = device_key(jax.random.fold_in(state.key, state.step), axis_name)
        of_data, of_network = jax.random.split(key)
        read = task.augmented(of_data, batch)

        def loss_of(weights: Any) -> Any:
            variables = {PARAMS: weights, **state.model_state}
            return scored(variables, read, of_network, train=True, axis_name=axis_name)

        (loss, (model_state, metrics)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.weights)
        loss, model_state, metrics, gradient = mean_over((loss, model_state, metrics, gradient), axis_name)
        updates, optimizer_state = optimizer(rate).update(gradient, state.optimizer_state, state.weights)
        weights = apply_updates(state.weights, updates)
        norm, done = global_norm(gradient), state.step + 1
        finite = all_finite((loss, norm, weights, model_state))
        numbers = dict(zip(averages, listed_scores(names, loss, metrics)))
        new = TrainState(
            step=done,
            weights=weights,
            model_state=model_state,
            optimizer_state=optimizer_state,
            average=averaged(state.average, {PARAMS: weights, **model_state}, done, decay=ema_decay),
            key=state.key,
            sums=epoch_sums(state.sums, numbers, starts_epoch=starts_epoch),
            not_finite_at=first_not_finite(state.not_finite_at, finite, done),
        )
        return new, numbers | {"weights/gradient_norm": norm, "learning_rate": rate}

    def evaluate(state: TrainState, batch: Any, count: jax.Array, *, axis_name: str | None = None) -> jax.Array:
        variables = state.average or {PARAMS: state.weights, **state.model_state}
        loss, (_, metrics) = scored(variables, batch, state.key, train=False, axis_name=axis_name)
        return count * mean_over(listed_scores(names, loss, metrics), axis_name)

    return NetworkTrainProgram(init, step, evaluate, names)


def _metrics_of(new_variables: Callable[..., Any], scored: Callable[..., Any], shapes: Any) -> tuple[str, ...]:
    """The names of the metrics; raises an `InputError` where outputs and targets do not fit the loss or a metric."""

    def metrics(batch: Any) -> Any:
        key = jax.random.key(0)
        return scored(new_variables(key, batch), batch, key, train=False, axis_name=None)[1][1]

    return tuple(jax.eval_shape(metrics, shapes))


def _without_weights(variables: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in variables.items() if name != PARAMS}
