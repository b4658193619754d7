"""The training of the user's own network: its settings, its task, and what builds it."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from jdarts import optimizers
from jdarts.choice.decided import DECIDED
from jdarts.data import ImageDataset
from jdarts.nets.counts import count_weights
from jdarts.nets.initial import shapes_of
from jdarts.network_tasks.batches import Source
from jdarts.network_tasks.calling import check_network, class_name, identity_of
from jdarts.network_tasks.metrics import metrics_of
from jdarts.network_tasks.reading import COUNT, TaskBatches, TaskData
from jdarts.network_tasks.settings import (
    check_single_steps,
    check_unread,
    image_settings,
    read_settings,
    with_task,
)
from jdarts.network_tasks.task import NetworkTask
from jdarts.runs.calls import Call
from jdarts.runs.devices import Devices
from jdarts.runs.epoch_steps import EpochSteps
from jdarts.runs.programs import ByIdentity
from jdarts.runs.task import SEED, End, Evaluation, Functions, Input, Program, Task
from jdarts.train.config import TrainConfig
from jdarts.train.network_step import NetworkTrainProgram, network_train_program
from jdarts.train.network_summary import NetworkTrainResult
from jdarts.train.step import TrainState

#: Settings of cells and of the network around them.
OF_CELLS = frozenset(
    {"genotype", "network", "auxiliary", "auxiliary_weight", "drop_path", "label_smoothing", "channels", "cells"}
)


class NetworkTraining:
    """The training of a network: its settings, and what builds it.

    Args:
      config: the settings.
      network: a network of Linen or NNX.
      task: loss, metrics and batches.
      images: those that the task is made of, with the settings of images; without them such settings are refused.

    Attributes:
      config: the settings, with the name of the task and the size of its batches.

    Raises:
      InputError: settings of cells or of images, or data that cannot be read.
    """

    def __init__(
        self, config: TrainConfig, network: object, task: NetworkTask, *, images: ImageDataset | None = None
    ) -> None:
        usual = TrainConfig()
        self._network, self._task, self._data = check_network(network, choices=False), task, TaskData(task)
        self._given = network
        self._images = images
        of_images = frozenset() if images is not None else image_settings() | {"validation_fraction"}
        self._unread = OF_CELLS | of_images
        check_single_steps(config)
        check_unread(config, usual, OF_CELLS, "the network is your own, without such cells")
        check_unread(config, usual, of_images, "the batches are those of the task")
        if images is None:
            config = with_task(config, usual, task, self._data)
        folder = config.run.folder("train", config.data.label, class_name(network))
        self.config = dataclasses.replace(config, run_dir=folder)

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON data."""
        return read_settings(self.config, self._unread)

    @functools.cached_property
    def program(self) -> NetworkTrainProgram:
        """The pure functions of the training."""
        config = self.config

        def optimizer(learning_rate: Any) -> optax.GradientTransformation:
            return optimizers.weight_optimizer(learning_rate, **dataclasses.asdict(config.weights))

        return network_train_program(
            self._network,
            self._task,
            self._data.train.shapes,
            optimizer=optimizer,
            ema_decay=config.ema_decay,
            synchronised=config.norm.batch_statistics == "synchronised",
        )

    @functools.cached_property
    def template(self) -> TrainState:
        """Shapes and types of the state."""
        return shapes_of(self.program.init, SEED)

    def fingerprint(self) -> dict[str, Any]:
        """What identifies the data and the network of the run."""
        chosen = getattr(self._network, DECIDED, {})
        facts = [json.dumps(chosen, sort_keys=True)] if chosen else []
        of_images = {} if self._images is None else self._images.fingerprint
        network = identity_of(self._network, self.template.weights, facts)
        return {**of_images, **self._data.fingerprint, "network": network}

    def on(self, devices: Devices) -> "NetworkTrainTask":
        """The task of the run on devices."""
        config, data, program = self.config, self._data, self.program
        without_seed = json.dumps({**self.settings, "seed": None, "epochs": None}, sort_keys=True)
        weights = count_weights(self.template.weights)
        test = config.test and data.test is not None
        evaluated = {"valid after each epoch": data.valid is not None, "test at the end": test}
        parts = ", ".join(words for words, is_read in evaluated.items() if is_read)
        return NetworkTrainTask(
            unit="examples",
            shown=(*(f"train/{name}" for name in program.names), "learning_rate"),
            best=None if data.valid is None else "valid/loss",
            best_is_least=True,
            data=data,
            reads=TaskBatches(data, devices, [config.run.seed]),
            names=program.names,
            evaluate=jax.jit(program.evaluate),
            rate=config.learning_rate_in,
            test=test,
            options=config.loop,
            seed=np.uint32(config.run.seed),
            fingerprint=self.fingerprint(),
            epoch_steps=EpochSteps.of_one_length(data.steps_per_epoch),
            units_per_step=data.train.size,
            template=self.template,
            description=(
                f"training {class_name(self._network)} on {config.data.dataset}: {weights:,} weights, {data.steps_per_epoch:,} "
                f"batches of {data.train.size} in an epoch; loss {self._task.loss_name}{parts and f'; {parts}'}"
            ),
            key=(ByIdentity(self._given), ByIdentity(self._task), without_seed, devices.key),
            programs=_programs(program, data, self.template),
            devices=devices,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkTrainTask(Task[TrainState]):
    """The training of the user's own network.

    Attributes:
      data: the data of the task.
      reads: its batches on the devices.
      names: of the loss and of the metrics.
      evaluate: scores a batch of any size.
      rate: the learning rate of an epoch, counted from 0.
      test: whether the network is tested at the end.
    """

    noun = "training"

    data: TaskData
    reads: TaskBatches
    names: tuple[str, ...]
    evaluate: Callable[..., Any]
    rate: Callable[[int], float]
    test: bool

    def calls(self, functions: Functions, state: TrainState, epoch: int, first: int) -> Iterator[Call]:
        """Batch and learning rate of each step."""
        del functions, state
        rate = np.float32(self.rate(epoch))
        for place, (batch, *_) in enumerate(self.reads.steps(epoch, first, with_valid=False), first):
            yield Call("step", (batch, rate, np.bool(place == 0)))

    def evaluations(self, functions: Functions, state: TrainState) -> Sequence[Evaluation]:
        """Loss and metrics on the held-out examples, where there are any."""
        return self._evaluated("evaluating", self.data.valid, "valid", functions, state)

    def tests(self, functions: Functions, state: TrainState) -> Sequence[Evaluation]:
        """Loss and metrics of the tested weights on the held-out and on the test examples."""
        test = self.data.test if self.test else None
        return (
            *self._evaluated("evaluating", self.data.valid, "held_out", functions, state),
            *self._evaluated("testing", test, "test", functions, state),
        )

    def _evaluated(
        self, doing: str, source: Source | None, prefix: str, functions: Functions, state: TrainState
    ) -> tuple[Evaluation, ...]:
        """The evaluation of a part of the data; none without it."""
        if source is None:
            return ()
        names = [f"{prefix}/{name}" for name in self.names]
        scored, compiled = (functools.partial(each, state) for each in (self.evaluate, functions["evaluate"]))
        return (self.reads.evaluation(doing, source, names, scored, compiled, self.data.train.shapes),)

    def record(self, state: TrainState) -> dict[str, Any]:
        """The network, in words."""
        del state
        return {"network": self.fingerprint["network"]}

    def result(self, state: TrainState, numbers: Mapping[str, Any], end: End) -> NetworkTrainResult:
        """Metrics of the last epoch and of the tested weights."""
        return NetworkTrainResult(
            weights=count_weights(state.weights),
            tested="best" if end.best else "last",
            checkpoint=end.checkpoint,
            train_metrics={name: float(state.sums[f"train/{name}"]) / self.steps_per_epoch for name in self.names},
            valid_metrics=metrics_of(numbers, "held_out"),
            test_metrics=metrics_of(numbers, "test"),
            seconds=end.seconds,
            folder=end.folder,
        )


def _programs(program: NetworkTrainProgram, data: TaskData, template: TrainState) -> dict[str, Program]:
    batch = Input(data.train.shapes, split=True)
    rate, starts = (Input(jax.ShapeDtypeStruct((), kind)) for kind in (np.float32, np.bool))
    return {
        "init": Program(program.init, (Input(SEED, split=None),)),
        "step": Program(program.step, (Input(template), batch, rate, starts), "batch", donate=True),
        "evaluate": Program(
            program.evaluate, (Input(template), batch, Input(COUNT)), "batch", needed_for_first_step=False
        ),
    }
