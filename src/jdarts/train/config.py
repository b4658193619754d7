"""What a training is told: one frozen dataclass, which is also the command line."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jdarts import optim, zoo
from jdarts.data.streamed.dataset import LARGE
from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.nets.discrete import DiscreteNetwork, Stem, cifar_network, imagenet_network
from jdarts.resolve import find_genotype
from jdarts.runs.devices import BatchStatistics, Parallel, check_devices
from jdarts.runs.images import ImagesOn
from jdarts.runs.settings import (
    BELOW_ONE,
    CELLS,
    CHANNELS,
    CUTOUT,
    NOT_NEGATIVE,
    PADDING,
    POSITIVE,
    RUN_BOUNDS,
    SEED,
    WITHOUT_EFFECT,
    Bounds,
    Folder,
    FromDataset,
    as_json,
    check_dataset_name,
    check_settings,
    folder_name,
    genotype_label,
)

Schedule = Literal["cosine", "exponential"]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of a training. The defaults are the paper's for CIFAR-10 (section 3.2 and its reference code).

    Attributes:
      genotype: the cells to train: the name of a published cell, a search's run folder, a file, or the text form.
      dataset: the images: digits, cifar10, cifar100, fashion_mnist or svhn. All but digits are to be prepared first
        with `python -m jdarts.data prepare NAME`. Or imagenet2012 or imagenette, as tensorflow-datasets prepares them.
      data_dir: where prepared images lie (default: TFDS_DATA_DIR, or ~/tensorflow_datasets).
      run_dir: folder that gets everything the run leaves behind; a folder with an interrupted run is gone on with
        (default: runs/train-DATASET-GENOTYPE-seedSEED).
      network: the cells' surroundings: cifar for small images, or imagenet, whose stem halves the images three times.
      channels: channels of the first cells; each reduction doubles them.
      cells: number of cells; those at 1/3 and 2/3 of the depth are reduction cells.
      auxiliary: add a second classifier at 2/3 of the depth, for training alone. It fits images of any size that are 4×4 or
        larger there.
      auxiliary_weight: weight of its loss.
      drop_path: probability of a dropped path at the end; it grows from 0 in proportion to the epochs.
      epochs: passes over the training images.
      batch_size: images of a batch.
      learning_rate: step size in the first epoch.
      schedule: how it falls, once an epoch: as a cosine to learning_rate_min, or by a constant factor.
      learning_rate_min: where the cosine would end after the last epoch.
      learning_rate_decay: the constant factor.
      momentum: momentum of SGD.
      weight_decay: L2 penalty on all weights.
      clip: largest global norm of the gradient.
      label_smoothing: share of a label that is spread evenly over all classes, in training.
      padding: pixels put around an image before it is cropped at random.
      flip: mirror half of the images.
      cutout: side of the square that is cut out of each image; 0 for none.
      image_size: side of the images that are cut out of the pictures of imagenet2012 and imagenette (default: 224).
      color_jitter: how far their brightness, contrast, saturation and hue are changed; four numbers, 0 for not at all.
      ema_decay: decay of a running average of the weights, which is then evaluated in their place; 0 for none.
      validation_fraction: share of the training images that is held out. With it the best epoch by validation
        accuracy is tested; without it all images train, and the last epoch is tested.
      split_seed: seed of the choice of the held-out images, which have their share of every class (default: the last ones
        of the set where its order has no pattern, as CIFAR-10's; else 0).
      test: test the network, once, at the end.
      seed: seed of everything that is random.
      log_every: steps between two records in metrics.jsonl.
      checkpoint_minutes: minutes between two checkpoints within an epoch; each epoch ends with one.
      keep_checkpoints: checkpoints to leave on disk.
      images_on: where the images live. auto: on the device if they take at most a quarter of its memory.
      workers: processes that decode the pictures of imagenet2012 and imagenette (default: one for each processor, 16 at
        the most); 0 decodes them in the process that trains.
      devices: devices that share each batch. The result does not depend on their number, up to rounding, unless batch
        statistics are per_device.
      parallel: how the step is spread over several devices: jax.pmap, or shard_map on a mesh. jit is for one.
      batch_statistics: what normalises a batch on several devices. synchronised: the statistics of the whole batch;
        per_device: each device its share by that share's own, as in the reference implementation; running statistics
        are the mean of the devices'.
    """

    genotype: Annotated[str, tyro.conf.arg(metavar="GENOTYPE")] = "DARTS_V2"
    dataset: str = "cifar10"
    data_dir: Annotated[Path | None, Folder] = None
    run_dir: Annotated[Path | None, Folder] = None
    network: Stem = "cifar"
    channels: int = 36
    cells: int = 20
    auxiliary: bool = True
    auxiliary_weight: float = 0.4
    drop_path: float = 0.2
    epochs: int = 600
    batch_size: int = 96
    learning_rate: float = 0.025
    schedule: Schedule = "cosine"
    learning_rate_min: float = 0.0
    learning_rate_decay: float = 0.97
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    label_smoothing: float = 0.0
    padding: Annotated[int | None, tyro.conf.arg(metavar="INT"), FromDataset] = None
    flip: Annotated[bool | None, FromDataset] = None
    cutout: int = 16
    image_size: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    ema_decay: float = 0.0
    validation_fraction: float = 0.0
    split_seed: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    test: bool = True
    seed: int = 0
    log_every: int = 10
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 2
    images_on: ImagesOn = "auto"
    workers: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    devices: int = 1
    parallel: Parallel = "shard"
    batch_statistics: BatchStatistics = "synchronised"

    def check(self) -> None:
        """Checks every value that can be checked without the data.

        It is no part of the construction, where the command line would wrap its message.

        Raises:
          InputError: a value out of its range, or a genotype that cannot be found.
        """
        check_settings(self, _BOUNDS)
        check_dataset_name(self.dataset)
        check_devices(self)
        for value, most in zip(self.color_jitter, (1, 1, 1, 0.5)):
            if not 0 <= value <= most:
                raise InputError(
                    f"--color-jitter is {' '.join(map(str, self.color_jitter))}; give numbers from 0 to 1, the last to 0.5"
                )
        if self.dataset not in LARGE and (self.image_size is not None or any(self.color_jitter)):
            given = "--color-jitter" if self.image_size is None else "--image-size"
            raise InputError(f"{given} is for {' and '.join(LARGE)}; leave it out with {self.dataset}")
        if self.dataset in LARGE and self.split_seed is not None:
            raise InputError(
                f"--split-seed is for images in memory; leave it out with {self.dataset}, whose order has no pattern"
            )
        self.model(classes=2)

    @property
    def side(self) -> int:
        """Side of the images that are cut out of large pictures."""
        return _SIDE if self.image_size is None else self.image_size

    @property
    def worker_count(self) -> int:
        """Processes that decode large pictures."""
        return min(16, os.cpu_count() or 1) if self.workers is None else self.workers

    @property
    def cell(self) -> Genotype:
        """The genotype that is meant."""
        return find_genotype(self.genotype)

    def model(self, classes: int) -> DiscreteNetwork:
        """The network for so many classes.

        Raises:
          InputError: settings that make no network.
        """
        make = cifar_network if self.network == "cifar" else imagenet_network
        return make(self.cell, channels=self.channels, cells=self.cells, classes=classes, auxiliary=self.auxiliary)

    @property
    def folder(self) -> Path:
        """The run's folder. The same settings give the same folder, so that the same command goes on with its run."""
        return (
            self.run_dir
            or Path("runs")
            / f"train-{folder_name(self.dataset)}-{genotype_label(self.genotype, zoo.CELLS)}-seed{self.seed}"
        )

    def learning_rate_in(self, epoch: int) -> float:
        """The step size of an epoch, counted from 0."""
        if self.schedule == "exponential":
            return self.learning_rate * self.learning_rate_decay**epoch
        return float(optim.cosine(self.learning_rate, self.learning_rate_min, epochs=self.epochs)[epoch])

    def drop_path_in(self, epoch: int) -> float:
        """The probability of a dropped path in an epoch, counted from 0 (`drop_path · epoch / epochs`)."""
        return self.drop_path * epoch / self.epochs

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON data; the genotype in its text form, wherever it came from."""
        return as_json(self, without=WITHOUT_EFFECT) | {"genotype": str(self.cell)}


#: What the paper's ImageNet networks read.
_SIDE = 224

_BOUNDS = {
    **RUN_BOUNDS,
    "channels": CHANNELS,
    "cells": CELLS,
    "auxiliary_weight": NOT_NEGATIVE,
    "drop_path": BELOW_ONE,
    "batch_size": Bounds(2, 1_000_000),
    "learning_rate": POSITIVE,
    "learning_rate_min": NOT_NEGATIVE,
    "learning_rate_decay": Bounds(POSITIVE.least, 1.0, *("a number above 0, up to 1",) * 2),
    "momentum": BELOW_ONE,
    "weight_decay": NOT_NEGATIVE,
    "clip": POSITIVE,
    "label_smoothing": BELOW_ONE,
    "padding": PADDING,
    "cutout": CUTOUT,
    "image_size": Bounds(8, 4096),
    "ema_decay": BELOW_ONE,
    "validation_fraction": BELOW_ONE,
    "split_seed": SEED,
    "workers": Bounds(0, 1024),
}
