"""The task of a training on images, and the one place that builds it from a configuration."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jdarts import data, optimizers
from jdarts.data.streamed.dataset import LargeDataset
from jdarts.genotype import Genotype
from jdarts.nets.auxiliary import WINDOW
from jdarts.nets.counts import AUXILIARY, count_weights
from jdarts.nets.discrete import AUXILIARY_STRIDE, DiscreteNetwork, auxiliary_windows
from jdarts.nets.initial import shapes_of
from jdarts.runs.calls import Call
from jdarts.runs.devices import Devices
from jdarts.runs.epoch_steps import EpochSteps
from jdarts.runs.folder import MISTAKES
from jdarts.runs.images import Batch, EvaluationBatches, check_augmentation, check_steps_per_call, evaluation_shapes
from jdarts.runs.memory import smaller_shares
from jdarts.runs.task import SEED, End, Evaluation, Functions, Input, Program, Task, programs_of_several
from jdarts.space import cell_kinds
from jdarts.train.config import TrainConfig
from jdarts.train.images import MemoryImages
from jdarts.train.large_images import LargeImages
from jdarts.train.mistakes import MistakeCounter
from jdarts.train.step import AVERAGED, Conditions, TrainProgram, TrainState, train_program
from jdarts.train.summary import TrainResult

TrainingImages = MemoryImages | LargeImages


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainTask(Task[TrainState]):
    """A training on images.

    Attributes:
      images: the images.
      genotype: the cells.
      network: settings of the network besides the cells, for the record of a checkpoint.
      conditions: learning rate and probability of a dropped path of an epoch, counted from 0.
      test: whether the network is tested at the end.
    """

    noun = "training"
    shown: tuple[str, ...] = (*AVERAGED, "learning_rate", "drop_path")
    best: str | None = "valid/accuracy"

    images: TrainingImages
    genotype: Genotype
    network: Mapping[str, Any]
    conditions: Callable[[int], tuple[float, float]]
    test: bool

    def calls(self, functions: Functions, state: TrainState, epoch: int, first: int) -> Iterator[Call]:
        """Images, labels, rows and conditions of each call."""
        rate, drop_path = map(np.float32, self.conditions(epoch))
        planned = self.plan(epoch, first)
        batches = self.images.epoch(state.key, epoch, [steps for _, steps in planned])
        for (program, steps), batch in zip(planned, batches):
            conditions = Conditions(rate, drop_path, np.bool(steps.start == 0))
            if len(steps) > 1:
                each = (Conditions(rate, drop_path, np.bool(step == 0)) for step in steps)
                conditions = Conditions(*map(np.array, zip(*each)))
            yield Call(program, (*batch, conditions), len(steps))

    def evaluations(self, functions: Functions, state: TrainState) -> Sequence[Evaluation]:
        """Loss and accuracy on the held-out images, where there are any."""
        if not self.images.valid_count:
            return ()
        names = ("valid/loss", "valid/accuracy")
        return (self._evaluation("evaluating", functions, state, self.images.valid_batches(), names),)

    def tests(self, functions: Functions, state: TrainState) -> Sequence[Evaluation]:
        """Loss, accuracy and accuracy of five guesses on the test images, and the mistakes among them.

        Without a test, the mistakes are those among the held-out images.
        """
        images = self.images
        if self.test:
            names = ("test/loss", "test/accuracy", "test/top5_accuracy")
            mistakes = MistakeCounter("test images", images.class_names, images.test_name)
            return (self._evaluation("testing", functions, state, images.test_batches(), names, mistakes),)
        if images.valid_count:
            mistakes = MistakeCounter("held-out images", images.class_names, images.valid_name)
            return (self._evaluation("looking for mistakes", functions, state, images.valid_batches(), (), mistakes),)
        return ()

    def _evaluation(
        self,
        doing: str,
        functions: Functions,
        state: TrainState,
        batches: EvaluationBatches,
        names: tuple[str, ...],
        mistakes: MistakeCounter | None = None,
    ) -> Evaluation:
        def sums(images: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> Any:
            found, answers = functions["evaluate"](state, *self.placed((images, labels, mask)))
            if mistakes is not None:
                mistakes.add(images, labels, mask, answers)
            return found

        def files() -> dict[str, str]:
            return {} if mistakes is None else {MISTAKES: mistakes.record().to_json() + "\n"}

        return Evaluation(doing, sums, batches, lambda means: dict(zip(names, means)), files)

    def record(self, state: TrainState) -> dict[str, Any]:
        """Cells, network and images."""
        return {
            "genotype": json.loads(self.genotype.to_json()),
            "network": dict(self.network),
            "images": {
                "shape": self.images.image_shape,
                "class_names": self.images.class_names,
                "mean": self.images.mean,
                "std": self.images.std,
            },
        }

    def result(self, state: TrainState, numbers: Mapping[str, Any], end: End) -> TrainResult:
        """Accuracies of the last and of the tested weights."""
        many = len(self.images.class_names) >= _MANY_CLASSES
        return TrainResult(
            genotype=self.genotype,
            weights=_weights(state),
            tested="best" if end.best else "last",
            checkpoint=end.checkpoint,
            train_accuracy=float(state.sums["train/accuracy"]) / self.steps_per_epoch,
            valid_accuracy=end.best["valid_accuracy"] if end.best else None,
            test_accuracy=float(numbers["test/accuracy"]) if self.test else None,
            test_top5_accuracy=float(numbers["test/top5_accuracy"]) if self.test and many else None,
            test_loss=float(numbers["test/loss"]) if self.test else None,
            seconds=end.seconds,
            folder=end.folder,
        )


def train_task(config: TrainConfig, dataset: data.ImageDataset | LargeDataset, devices: Devices) -> TrainTask:
    """Builds the task of a training.

    Args:
      config: the settings.
      dataset: the images.
      devices: those that share a batch.

    Raises:
      InputError: images that do not fit the settings.
    """
    images, program, template = _fitted(config, dataset, devices)
    steps_per_call = min(config.calls.steps_per_call, images.steps_per_epoch)
    check_steps_per_call(steps_per_call, on_device=images.on_device)
    return TrainTask(
        images=images,
        genotype=config.cell,
        network={
            "stem": config.network,
            "channels": config.size.channels,
            "cells": config.size.cells,
            "auxiliary": config.auxiliary,
        },
        conditions=lambda epoch: (config.learning_rate_in(epoch), config.drop_path_in(epoch)),
        test=config.test,
        options=config.loop,
        seed=np.uint32(config.run.seed),
        fingerprint=images.fingerprint,
        epoch_steps=EpochSteps.of_one_length(images.steps_per_epoch),
        examples=images.train_count,
        steps_per_call=steps_per_call,
        units_per_step=config.batches.batch_size,
        template=template,
        description=_description(config, images, _weights(template)),
        key=(*_key(config, images, devices), steps_per_call),
        programs=_programs(program, images, template, config.batches.batch_size, steps_per_call),
        memory_options=smaller_shares(config.batches.batch_size, devices.count),
        devices=devices,
    )


def train_images(
    config: TrainConfig, dataset: data.ImageDataset | LargeDataset, devices: Devices | None = None
) -> TrainingImages:
    """The images of a training; arguments as for `train_task`.

    Raises:
      InputError: images that do not fit the settings.
    """
    common: Any = {
        "batch_size": config.batches.batch_size,
        "validation_fraction": config.validation_fraction,
        "augmentation": config.augmentation.of(dataset.augmentation),
    }
    if isinstance(dataset, LargeDataset):
        config.check_streamed()
        return LargeImages(
            dataset,
            devices,
            epochs=config.loop.epochs,
            reader=config.pictures.reader(dataset.side or config.data.side),
            seed=config.run.seed,
            **common,
        )
    return MemoryImages(
        dataset, devices, split_seed=config.batches.split_seed, images_on=config.batches.images_on, **common
    )


def check_images(config: TrainConfig, dataset: data.ImageDataset) -> None:
    """Checks that images fit a training, without starting it.

    Raises:
      InputError: too few images, or images of a size that the network cannot read.
    """
    _fitted(config, dataset, None)


def _fitted(
    config: TrainConfig, dataset: data.ImageDataset | LargeDataset, devices: Devices | None
) -> tuple[TrainingImages, TrainProgram, TrainState]:
    """Images, program, and shapes of the state; raises an `InputError` for images that do not fit the settings."""
    images = train_images(config, dataset, devices)
    program = _program(config, images)
    template = shapes_of(program.init, SEED)
    check_augmentation(images.augmentation, images.image_shape)
    return images, program, template


def program_from_config(config: TrainConfig, model: DiscreteNetwork, **image_settings: Any) -> TrainProgram:
    """Builds the functions of a training from its settings.

    Args:
      config: the settings.
      model: the network.
      image_settings: shape, augmentation, mean and standard deviation of the images, as for `train_program`.
    """

    def optimizer(learning_rate: Any) -> optax.GradientTransformation:
        return optimizers.weight_optimizer(learning_rate, **dataclasses.asdict(config.weights))

    return train_program(
        model,
        optimizer=optimizer,
        drops_paths=bool(config.drop_path),
        label_smoothing=config.label_smoothing,
        auxiliary_weight=config.auxiliary_weight,
        ema_decay=config.ema_decay,
        synchronised=config.norm.batch_statistics == "synchronised",
        **image_settings,
    )


def _program(config: TrainConfig, images: TrainingImages) -> TrainProgram:
    return program_from_config(
        config,
        config.model(len(images.class_names)),
        image_shape=images.image_shape,
        augmentation=images.augmentation,
        mean=images.mean,
        std=images.std,
    )


def _description(config: TrainConfig, images: TrainingImages, weights: int) -> str:
    counts = f"{images.train_count:,} images"
    if images.valid_count:
        counts += f", {images.valid_count:,} held out"
    cells = f"{config.size.cells} cell{'s' if config.size.cells > 1 else ''}"
    head = f"and an auxiliary head{_head_note(config, images)}, " if config.auxiliary else ""
    return f"training on {config.data.dataset}: {counts}; {cells}, {weights:,} weights, {head}{config.genotype}"


def _head_note(config: TrainConfig, images: TrainingImages) -> str:
    """The windows of the auxiliary head, if the image size makes them different from the paper's."""
    stem, kinds = config.network, cell_kinds(config.size.cells, config.cell.kinds)
    sides = [auxiliary_windows(stem, kinds, side) for side in images.image_shape[:2]]
    if all(side == (WINDOW, AUXILIARY_STRIDE[stem]) for side in sides):
        return ""
    sizes, strides = ("×".join(map(str, each)) for each in zip(*sides))
    usual = f"{WINDOW}×{WINDOW} with stride {AUXILIARY_STRIDE[stem]}"
    return f" (its windows fit the images: {sizes} with stride {strides}; the paper's are {usual})"


def _key(config: TrainConfig, images: TrainingImages, devices: Devices) -> Any:
    settings = config.to_json()
    for name in ("seed", "epochs", "validation_fraction", "test", *_SCHEDULED):
        del settings[name]
    # The program depends only on whether there is a probability of a dropped path.
    settings["drop_path"] = bool(config.drop_path)
    image_settings = (images.mean, images.std, len(images.class_names), images.augmentation)
    return TrainTask.noun, json.dumps(settings, sort_keys=True), image_settings, str(images.step_shapes()), devices.key


def _programs(
    program: TrainProgram, images: TrainingImages, template: TrainState, batch_size: int, steps_per_call: int
) -> dict[str, Program]:
    number, in_batches = jax.ShapeDtypeStruct((), jnp.float32), not images.on_device
    conditions = Conditions(number, number, jax.ShapeDtypeStruct((), jnp.bool))
    pixels, labels, rows = images.step_shapes()
    of_step = (Input(pixels, split=in_batches), Input(labels, split=in_batches), Input(rows, split=True))
    scored = (Input(shapes, split=True) for shapes in evaluation_shapes(images.image_shape, batch_size))

    def step(state: TrainState, images: Any, labels: Any, rows: Any, conditions: Conditions, **axis: Any) -> Any:
        return program.step(state, Batch(images, labels, rows), conditions, **axis)

    programs = {
        "init": Program(program.init, (Input(SEED, split=None),)),
        "step": Program(step, (Input(template), *of_step, Input(conditions)), "batch", donate=True),
        "evaluate": Program(program.evaluate, (Input(template), *scored), "batch", needed_for_first_step=False),
    }
    return programs | programs_of_several(programs, steps_per_call, (None, None, 1, 0))


#: Smallest number of classes for which the accuracy of five guesses is reported.
_MANY_CLASSES = 100

#: Settings that reach the compiled step as numbers.
_SCHEDULED = ("learning_rate", "learning_rate_min", "learning_rate_decay", "schedule")


def _weights(state: TrainState) -> int:
    """Number of weights without the auxiliary head, which serves only training."""
    return count_weights({name: module for name, module in state.weights.items() if name != AUXILIARY})
