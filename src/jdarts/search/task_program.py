"""The pure functions of a search in the user's own network with the user's own task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jdarts.bilevel import LossFn
from jdarts.budget.penalty import CostPenalty
from jdarts.microbatches import in_microbatches
from jdarts.network_tasks.batches import one_example
from jdarts.network_tasks.calling import drawn, streams
from jdarts.network_tasks.task import LOSS, NetworkTask, listed_scores
from jdarts.parallel import device_key, mean_over
from jdarts.relaxation import Controls
from jdarts.search.own_network import OwnNetwork
from jdarts.search.program import Part, Searched, SearchState, Steps, core_program


class TaskProgram(NamedTuple):
    """The pure functions of a search with a task.

    Attributes:
      init: `seed, uint32 [] -> SearchState`.
      step: `(state, batch of train, batch of valid, axis_name) -> (state, metrics)`; see `jdarts.parallel`.
      weights_step: the same for a step that leaves the alphas as they are.
      evaluate: `(state, batch, count, axis_name) -> [numbers]`, loss and metrics of a batch in evaluation mode, in the order of
        `names` and times a count.
      measures: `(state, batch of train, batch of valid, axis_name) -> numbers by name`.
      names: of the loss and of the metrics.
    """

    init: Callable[[jax.Array], SearchState]
    step: Callable[..., tuple[SearchState, dict[str, jax.Array]]]
    weights_step: Callable[..., tuple[SearchState, dict[str, jax.Array]]]
    evaluate: Callable[..., jax.Array]
    measures: Mapping[str, Callable[..., dict[str, jax.Array]]]
    names: tuple[str, ...]


def task_program(
    own: OwnNetwork,
    task: NetworkTask,
    steps: Steps,
    shapes: Any,
    *,
    synchronised: bool = True,
    microbatches: int = 1,
    penalties: Sequence[CostPenalty] = (),
) -> TaskProgram:
    """Builds the functions of a search with a task.

    Args:
      own: the network.
      task: loss and metrics.
      steps: how the search steps.
      shapes: shapes and types of a batch.
      synchronised: whether several devices use the batch statistics of the whole batch.
      microbatches: number of parts of a batch, which a step computes one after the other.
      penalties: on expected costs, beside the validation loss.
    """

    def on(axis_name: str | None) -> OwnNetwork:
        return own.clone(axis_name=axis_name if synchronised else None)

    def new_variables(key: jax.Array) -> Any:
        return own.new_variables({"params": key, "dropout": key}, task.parts(one_example(shapes))[0])

    def batch(part: Part, key: jax.Array, inputs: tuple[Any, ...], axis_name: str | None) -> Any:
        train, valid = inputs
        return task.augmented(device_key(key, axis_name), train if part == "train" else valid)

    def loss(axis_name: str | None, *, train: bool, controls: Controls) -> LossFn:
        del controls
        return in_microbatches(task_loss(on(axis_name), task, train=train), microbatches)

    names = scored_names(own, task, shapes)
    averaged = [f"{part}/{name}" for part in ("train", "valid") for name in names]
    kinds, space = own.kinds, own.space
    variables = drawn(own.network, new_variables)
    core = core_program(
        Searched(space, kinds, variables, batch, loss, averaged, shares_noise=False), steps, penalties=penalties
    )

    def evaluate(state: SearchState, batch: Any, count: jax.Array, *, axis_name: str | None = None) -> jax.Array:
        mixture, key = core.weights_now(state), device_key(state.data_key, axis_name)
        at = state.bilevel.weights, mixture, state.bilevel.model_state
        value, (_, metrics) = task_loss(own, task, train=False)(*at, batch, key)
        return count * mean_over(listed_scores(names, value, metrics), axis_name)

    return TaskProgram(core.init, core.step, core.weights_step, evaluate, core.measures, names)


def task_loss(own: OwnNetwork, task: NetworkTask, *, train: bool) -> LossFn:
    """The loss of a network with a task for `bilevel_step`, as a function of `MixtureWeights` in place of alphas.

    Args:
      own: the network.
      task: loss and metrics.
      train: whether the network is in training mode.
    """

    def loss_fn(weights: Any, mixture: Any, model_state: Any, batch: Any, key: jax.Array) -> Any:
        inputs, targets = task.parts(batch)
        outputs, state = own.outputs(weights, mixture, model_state, inputs, train=train, rngs=streams(key))
        value, metrics = task.scores(outputs, targets)
        return value, (state, metrics)

    # Under jit all passes of a step share one trace.
    return jax.jit(loss_fn)


def scored_names(own: OwnNetwork, task: NetworkTask, shapes: Any) -> tuple[str, ...]:
    """The names of the loss and of the metrics of a batch.

    Args:
      own: the network.
      task: loss and metrics.
      shapes: shapes and types of a batch.

    Raises:
      InputError: outputs and targets do not fit the loss or a metric.
    """

    def scores(batch: Any) -> Any:
        inputs, targets = task.parts(batch)
        key = jax.random.key(0)
        variables = own.new_variables({"params": key, "dropout": key}, inputs)
        mixture = {name: jnp.ones(each.values.shape) for name, each in own.choices.items()}
        outputs, _ = own.outputs(variables[0], mixture, variables[1], inputs, train=False, rngs=streams(key))
        return task.scores(outputs, targets)

    _, metrics = jax.eval_shape(scores, shapes)
    return (LOSS, *metrics)
