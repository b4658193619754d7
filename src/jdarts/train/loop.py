"""The training of a genotype's network, as a run of epochs."""

import dataclasses
import functools
import json
import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, TextIO

import jax
import jax.numpy as jnp
import numpy as np

from jdarts import checkpoint, data
from jdarts.data.streamed.dataset import LARGE, LargeDataset, open_large
from jdarts.errors import InputError
from jdarts.files.json_data import Fields
from jdarts.nets.auxiliary import WINDOW
from jdarts.nets.discrete import AUXILIARY_STRIDE, auxiliary_windows
from jdarts.nets.initial import initial_variables
from jdarts.report import draw_cells, draw_curves, read_metrics
from jdarts.runs import CompiledPrograms, EpochRun, Interruption, RunFolder, run
from jdarts.runs.devices import Devices
from jdarts.runs.images import Batch, check_augmentation, evaluation_shapes
from jdarts.runs.memory import saved_by_sharing, start_lines
from jdarts.runs.settings import named_after
from jdarts.train import summary
from jdarts.train.config import TrainConfig
from jdarts.train.images import MemoryImages
from jdarts.train.large_images import LargeImages
from jdarts.train.step import AVERAGED, Conditions, TrainProgram, TrainState, train_program
from jdarts.train.summary import Summary, TrainResult

TrainingImages = MemoryImages | LargeImages

#: Folder of the best checkpoint by validation accuracy, in a run's folder.
BEST = "best"


def train(
    config: TrainConfig,
    *,
    dataset: data.ImageDataset | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> TrainResult:
    """Trains a network of a genotype's cells, or goes on with a training that was interrupted.

    The run's folder decides: a new one starts a run, one with checkpoints goes on after the newest whole one and ends
    with the same bits as an undisturbed run on the same kind of device, a finished one is only reported.

    The test images are read once, at the end, and choose nothing.

    Args:
      config: the settings.
      dataset: the images, where they are not one of `jdarts.data.NAMES`; its name then stands in place of
        `config.dataset`.
      stream: where progress is shown; standard output by default.
      programs: compiled functions to share with other trainings of this process.

    Returns:
      The result.

    Raises:
      InputError: settings, data or folder do not fit, the disk is full, or a loss is not finite.
      Interrupted: SIGINT or SIGTERM came; the state was saved first.
    """
    config.check()
    config = named_after(config, dataset, data.ImageDataset)
    # The genotype itself in place of where it is found, which may change while the run goes on.
    config = dataclasses.replace(config, genotype=str(config.cell), run_dir=config.folder)

    images = functools.cache(lambda: dataset or _load(config))

    def begin(folder: RunFolder, interruption: Interruption) -> _Training:
        # Devices that are not there are refused before the data are read.
        devices = Devices(config.devices, config.parallel)
        return _Training(config, _images(config, images(), devices), devices, folder, interruption, stream, programs)

    return run(
        config,
        begin,
        fingerprint=lambda: images().fingerprint,
        finished=summary.read,
        noun=_Training.noun,
        stream=stream,
    )


def check_images(config: TrainConfig, dataset: data.ImageDataset) -> None:
    """Checks that images fit a training, long before it begins.

    Raises:
      InputError: too few images, or images of a size that the network cannot read.
    """
    images = MemoryImages(config, dataset)
    jax.eval_shape(_program(config, images).variables, jax.random.key(0))
    check_augmentation(images.augmentation, images.image_shape)


def _load(config: TrainConfig) -> data.ImageDataset | LargeDataset:
    if config.dataset in LARGE:
        return open_large(config.dataset, config.data_dir)
    return data.load(config.dataset, config.data_dir)


def _images(config: TrainConfig, dataset: data.ImageDataset | LargeDataset, devices: Devices) -> TrainingImages:
    if isinstance(dataset, LargeDataset):
        return LargeImages(config, dataset, devices)
    return MemoryImages(config, dataset, devices)


def _program(config: TrainConfig, images: TrainingImages) -> TrainProgram:
    return train_program(
        config,
        config.model(len(images.class_names)),
        image_shape=images.image_shape,
        augmentation=images.augmentation,
        mean=images.mean,
        std=images.std,
    )


class _Training(EpochRun[TrainState]):
    """One process's share of a training."""

    noun = "training"
    shown = (*AVERAGED, "learning_rate", "drop_path")

    def __init__(
        self,
        config: TrainConfig,
        images: TrainingImages,
        devices: Devices,
        folder: RunFolder,
        interruption: Interruption,
        stream: TextIO | None,
        programs: CompiledPrograms | None,
    ) -> None:
        self.config = config
        self.images = images
        self.devices = devices
        self._improved: dict[str, Any] | None = None
        self.program = _program(config, images)
        steps = images.steps_per_epoch
        super().__init__(
            config,
            folder,
            interruption,
            fingerprint=images.fingerprint,
            steps_per_epoch=steps,
            stream=stream,
            programs=programs,
        )
        # Images that do not fit the network are refused here, before the folder is made.
        self.template  # noqa: B018
        check_augmentation(images.augmentation, images.image_shape)

    def shapes(self) -> TrainState:
        return jax.eval_shape(self.program.initial, *self._seeds())

    def start(self) -> TrainState:
        weight_key, key = jax.random.split(jax.random.key(self.config.seed))
        variables = initial_variables(self.program.variables, weight_key)
        return self.functions["initial"](*self.devices.whole((variables, key)))

    def load(self, template: TrainState) -> TrainState:
        assert self.latest is not None
        return self.devices.load(self.latest, template)

    def _seeds(self) -> tuple[Any, jax.Array]:
        """Shapes and types of what the state is made from: the network's variables and a key."""
        key = jax.eval_shape(lambda: jax.random.key(0))
        return jax.eval_shape(self.program.variables, key), key

    def opening(self, template: TrainState) -> str:
        counts = f"{self.images.train_count:,} images"
        if self.images.valid_count:
            counts += f", {self.images.valid_count:,} held out"
        cells = f"{self.config.cells} cell{'s' if self.config.cells > 1 else ''}"
        head = f"and an auxiliary head{self._head_note()}, " if self.config.auxiliary else ""
        return (
            f"training on {self.config.dataset}: {counts}; {cells}, "
            f"{_weights(template):,} weights, {head}{self.config.genotype}"
        )

    def _head_note(self) -> str:
        """The windows of the auxiliary head, where the size of the images makes them others than the paper's."""
        stem, cells = self.config.network, self.config.cells
        sides = [auxiliary_windows(stem, cells, side) for side in self.images.image_shape[:2]]
        if all(side == (WINDOW, AUXILIARY_STRIDE[stem]) for side in sides):
            return ""
        sizes, strides = ("×".join(map(str, each)) for each in zip(*sides))
        usual = f"{WINDOW}×{WINDOW} with stride {AUXILIARY_STRIDE[stem]}"
        return f" (its windows fit the images: {sizes} with stride {strides}; the paper's are {usual})"

    def program_key(self) -> Hashable:
        settings = self.config.to_json()
        for name in ("seed", "epochs", "validation_fraction", "test", *_SCHEDULED):
            del settings[name]
        # Of the probability the program knows no more than whether there is one.
        settings["drop_path"] = bool(self.config.drop_path)
        images = (self.images.mean, self.images.std, len(self.images.class_names), self.images.augmentation)
        return self.noun, json.dumps(settings, sort_keys=True), images, str(self.images.step_shapes()), self.devices.key

    def lowered(self, template: TrainState) -> dict[str, jax.stages.Lowered]:
        number, split = jax.ShapeDtypeStruct((), jnp.float32), not self.images.on_device
        conditions = Conditions(number, number, jax.ShapeDtypeStruct((), jnp.bool))
        seeds, state, conditions = self.devices.shapes((self._seeds(), template, conditions), split=False)
        images, labels, rows = self.images.step_shapes()
        images, labels = self.devices.shapes((images, labels), split=split)
        rows = self.devices.shapes(rows, split=True)
        scored = self.devices.shapes(evaluation_shapes(self.images.image_shape, self.config.batch_size), split=True)

        def step(state: TrainState, images: Any, labels: Any, rows: Any, conditions: Conditions, **axis: Any) -> Any:
            return self.program.step(state, Batch(images, labels, rows), conditions, **axis)

        spread = self.devices.step(step, split=(split, split, True, False), donate=True)
        evaluate = self.devices.step(self.program.evaluate, split=(True, True, True))
        return {
            "initial": self.devices.everywhere(self.program.initial).lower(*seeds),
            "step": spread.lower(state, images, labels, rows, conditions),
            "evaluate": evaluate.lower(state, *scored),
        }

    def memory(self) -> list[str]:
        savings = saved_by_sharing(self.config.batch_size, self.devices.count)
        return start_lines(self.functions["step"], savings, devices=self.devices.own)

    def inputs(self, state: TrainState, epoch: int, first: int) -> Iterator[tuple[Any, ...]]:
        rate, drop_path = np.float32(self.config.learning_rate_in(epoch)), np.float32(self.config.drop_path_in(epoch))
        for place, batch in enumerate(self.images.epoch(state.key, epoch, first), first):
            yield *batch, Conditions(rate, drop_path, np.bool(place == 0))

    def evaluate(self, state: TrainState, epochs_ended: int) -> dict[str, float]:
        """Loss and accuracy on the held-out images, where there are any."""
        if not self.images.valid_count:
            return {}
        with self.display.pause("evaluating"):
            loss, accuracy, _ = self.means(
                self._sums_over(state), self.images.valid_batches(), state=state, epochs_ended=epochs_ended
            )
        return {"valid/loss": float(loss), "valid/accuracy": float(accuracy)}

    def _sums_over(self, state: TrainState) -> Any:
        """The sums of an evaluation batch, which the devices share."""
        return lambda *batch: self.functions["evaluate"](state, *self.devices.split(batch))

    def record(self, state: TrainState) -> dict[str, Any]:
        return {
            "genotype": json.loads(self.config.cell.to_json()),
            "network": {
                "stem": self.config.network,
                "channels": self.config.channels,
                "cells": self.config.cells,
                "auxiliary": self.config.auxiliary,
            },
            "images": {
                "shape": self.images.image_shape,
                "class_names": self.images.class_names,
                "mean": self.images.mean,
                "std": self.images.std,
            },
            "best": self.best,
        }

    def read_record(self, record: Fields, step: int) -> None:
        super().read_record(record, step)
        best = record.optional(lambda name: Fields(record.get(name)), "best")
        if best:
            best.count("step")
            best.number("valid_accuracy")

    @property
    def best(self) -> dict[str, Any] | None:
        """The best epoch so far by validation accuracy: `step` and `valid_accuracy`; None while there is none."""
        return self._improved or (self.latest.record["best"] if self.latest else None)

    def remove_half_written(self) -> None:
        super().remove_half_written()
        checkpoint.remove_half_written(self.folder.path / BEST)

    def _load_best(self, place: str) -> TrainState:
        try:
            found = checkpoint.read(self.folder.path / place)
        except InputError as error:
            raise InputError(
                f"the best weights of this training are lost: {error}. Put {place} back and start the same command again, or "
                "choose another --run-dir"
            ) from None
        return self.devices.load(found, self.template)

    def epoch_files(self, state: TrainState, epoch: int, evaluation: Mapping[str, float]) -> None:
        accuracy = evaluation.get("valid/accuracy")
        if accuracy is not None and (self.best is None or accuracy > self.best["valid_accuracy"]):
            self._improved = {"step": int(state.step), "valid_accuracy": accuracy}
            with self.display.pause("saving"):
                self.save_to(self.folder.path / BEST, state, epoch, keep=1)

    def close(self, state: TrainState, evaluation: Mapping[str, float]) -> Summary:
        steps, epochs, best = int(state.step), self.config.epochs, self.best
        train_accuracy = float(state.sums["train/accuracy"]) / self.steps_per_epoch
        place = f"{BEST if best else checkpoint.FOLDER}/step_{best['step'] if best else steps:08d}"
        tested = self._load_best(place) if best else state
        loss, accuracy, top5 = None, None, None
        if self.config.test:
            with self.display.pause("testing"):
                function = self._sums_over(tested)
                batches = self.images.test_batches()
                loss, accuracy, top5 = map(float, self.means(function, batches, state=state, epochs_ended=epochs))
        with self.display.pause("drawing"):
            self.folder.write_genotype(self.config.cell)
            draw_cells(self.config.cell, self.folder.path)
            draw_curves(read_metrics(self.folder.path), self.folder.path / "curves.png")
        result = TrainResult(
            genotype=self.config.cell,
            weights=_weights(state),
            tested="best" if best else "last",
            checkpoint=place,
            train_accuracy=train_accuracy,
            valid_accuracy=best["valid_accuracy"] if best else None,
            test_accuracy=accuracy,
            test_top5_accuracy=top5 if len(self.images.class_names) >= _MANY_CLASSES else None,
            test_loss=loss,
            seconds=self.seconds(),
            folder=self.folder.path,
        )
        found = Summary(result, epochs, steps)
        summary.write(found, self.folder)
        return found


#: From so many classes on, five guesses say something.
_MANY_CLASSES = 100

#: Settings that reach the compiled step as numbers.
_SCHEDULED = ("learning_rate", "learning_rate_min", "learning_rate_decay", "schedule")


def _weights(state: TrainState) -> int:
    """Number of weights without the auxiliary head, which is no part of the network in use."""
    return sum(
        math.prod(leaf.shape)
        for name, module in state.weights.items()
        if name != "auxiliary"
        for leaf in jax.tree.leaves(module)
    )
