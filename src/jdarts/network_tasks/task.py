"""The task of the user's own network: loss, metrics and batches."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jdarts.choice.losses import OutputLoss, batch_parts, output_loss
from jdarts.errors import InputError, shown
from jdarts.network_tasks.batches import Batches

#: `(outputs, targets) -> number`, a mean over the batch.
Metric = Callable[[Any, Any], Any]

#: The metric that every task has.
LOSS = "loss"


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkTask:
    """What a network of your own learns, for `jdarts.search.search` and `jdarts.train.train`.

    Batches are any pytrees of arrays whose first axes are the examples, and all of one shape. Each of `train`, `valid` and
    `test` is one of these:

    * a function from the number of an epoch, counted from 0, to an iterable of batches. If it has a parameter `seed`, it is given
      that of the run. It gives the same batches whenever it is called with the same numbers: so a resumed run has the same bits.
    * an object that can be iterated again and again, such as a list: its batches in every epoch.
    * `jdarts.ArrayBatches`, for arrays.

    A batch is a pair `(inputs, targets)`, where a tuple of inputs gives the network several arguments; or anything else, if
    `inputs` says what the network reads. A smaller last batch counts in evaluations alone.

    Attributes:
      train: trains the weights.
      valid: trains the alphas in a search, and starts again where it is shorter than `train`; a training evaluates it after each
        epoch, and keeps the weights of the best one. None for a training without it.
      test: evaluated once, at the end of a training; None for no test.
      loss: `cross_entropy`, `binary_cross_entropy`, `squared_error`, or `(outputs, targets) -> loss`, a scalar or one for each
        example, or `(loss, metrics)`.
      metrics: further numbers by name, `(outputs, targets) -> number`, such as `{"mae": lambda y, t: abs(y - t).mean()}`. An
        epoch has their mean over its batches. One whose name ends in `accuracy` is shown in percent.
      inputs: from a batch to the inputs of the network; the targets are then the whole batch. None for pairs.
      augment: `(key, batch) -> batch`, a pure function that changes the batches of a step, compiled with it; evaluations read
        batches as they are.
      name: of the data, for the run's folder and its page.
      steps_per_epoch: batches of an epoch; None for the length of `train`, or else the number of batches of epoch 0, which is
        read once to count them.

    Raises:
      InputError: a loss, a metric or a name that is none.
    """

    train: Batches
    valid: Batches | None = None
    test: Batches | None = None
    loss: str | OutputLoss = "cross_entropy"
    metrics: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
    inputs: Callable[[Any], Any] | None = None
    augment: Callable[[jax.Array, Any], Any] | None = None
    name: str = "own"
    steps_per_epoch: int | None = None

    def __post_init__(self) -> None:
        output_loss(self.loss)
        for name, metric in self.metrics.items():
            _check_name(name)
            if not callable(metric):
                raise InputError(f"the metric {name} is {shown(metric)}; give a function of outputs and targets")
        if self.inputs is not None and not callable(self.inputs):
            raise InputError(f"inputs is {shown(self.inputs)}; give a function from a batch to what the network reads")
        if self.augment is not None and not callable(self.augment):
            raise InputError(f"augment is {shown(self.augment)}; give a function of a key and a batch")
        if not re.fullmatch(r"[\w.-]*\w[\w.-]*", self.name):
            raise InputError(f"the name of the task is {shown(self.name)}; give letters, digits, '-', '_' and '.'")
        steps: Any = self.steps_per_epoch
        if steps is not None and (type(steps) is not int or steps < 1):
            raise InputError(f"steps_per_epoch is {shown(steps)}; give a whole number of 1 or more, or None")

    def parts(self, batch: Any) -> tuple[tuple[Any, ...], Any]:
        """The arguments of the network, and what its outputs are compared with.

        Raises:
          InputError: the batch is no pair, and `inputs` is None.
        """
        if self.inputs is None:
            return batch_parts(batch)
        inputs = self.inputs(batch)
        return (inputs if isinstance(inputs, tuple) else (inputs,)), batch

    def augmented(self, key: jax.Array, batch: Any) -> Any:
        """The batch of a step."""
        return batch if self.augment is None else self.augment(key, batch)

    def scores(self, outputs: Any, targets: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of a batch, and its metrics by name.

        Raises:
          InputError: a metric is no single number, has a name that cannot be used, or has a name twice.
        """
        loss, metrics = output_loss(self.loss)(outputs, targets)
        for name, value in metrics.items():
            _check_name(name)
            if name in self.metrics:
                raise InputError(
                    f"the loss returns a metric {shown(name)}, and metrics has one too; rename one of them"
                )
            _check_number(name, value)
        for name, metric in self.metrics.items():
            metrics[name] = jnp.asarray(metric(outputs, targets))
            _check_number(name, metrics[name])
        return loss, {name: jnp.asarray(value, loss.dtype) for name, value in metrics.items()}

    @property
    def loss_name(self) -> str:
        """The loss in words."""
        return self.loss if isinstance(self.loss, str) else getattr(self.loss, "__name__", type(self.loss).__name__)


def listed_scores(names: Sequence[str], loss: jax.Array, metrics: Mapping[str, jax.Array]) -> jax.Array:
    """Loss and metrics in the order of their names, float32."""
    found = {LOSS: loss, **metrics}
    return jnp.stack([found[name].astype(jnp.float32) for name in names])


def check_task(task: object) -> NetworkTask:
    """The task, if it is one.

    Raises:
      InputError: it is something else.
    """
    if not isinstance(task, NetworkTask):
        raise InputError(f"task is {shown(type(task).__name__)}; give a jdarts.NetworkTask")
    return task


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*", name) or name == LOSS:
        raise InputError(
            f"a metric has the name {shown(name)}; give a word of letters, digits and '_' that is not '{LOSS}'"
        )


def _check_number(name: str, value: Any) -> None:
    if jnp.shape(value):
        raise InputError(f"the metric {name} has shape {jnp.shape(value)}; give one number for a batch, such as a mean")
