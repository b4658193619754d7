"""The settings of a training, which are also its command line."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jdarts import optimizers, zoo
from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.nets.discrete import DiscreteNetwork, cifar_network, imagenet_network
from jdarts.nets.stem import Stem
from jdarts.resolve import find_genotype
from jdarts.runs.bounds import BELOW_ONE, NOT_NEGATIVE, UP_TO_ONE
from jdarts.runs.devices import check_share
from jdarts.runs.image_options import (
    ImageAugmentation,
    ImageBatches,
    ImageData,
    LargePictures,
    LearningRate,
    NetworkSize,
)
from jdarts.runs.names import genotype_label
from jdarts.runs.options import BatchNorm, Calls, Loop, Parallelism, Run, WeightOptimizer
from jdarts.runs.settings import Configuration, as_json

Schedule = Literal["cosine", "exponential"]


@dataclasses.dataclass(frozen=True, init=False)
class TrainConfig(Configuration):
    """Settings of a training. The defaults are the paper's for CIFAR-10 (section 3.2 and its reference code).

    A run's folder, where --run-dir names none, is runs/train-DATASET-GENOTYPE-seedSEED.

    Attributes:
      genotype: the cells to train: the name of a published cell, a search's run folder, a file, or the text form.
      network: the network around the cells: cifar for small images, or imagenet, whose stem halves the images three times. With
        it a folder of your own is read picture by picture, in random crops, and need not fit into memory.
      auxiliary: add a second classifier at 2/3 of the depth, for training only. Feature maps there must be 4×4 or larger.
      auxiliary_weight: weight of its loss.
      drop_path: probability of a dropped path at the end; it grows linearly from 0 over the epochs.
      schedule: how the learning rate falls, once an epoch: as a cosine to learning_rate_min, or by a constant factor.
      learning_rate_decay: the constant factor.
      label_smoothing: share of a label that is spread evenly over all classes, in training.
      ema_decay: decay of a running average of the weights, which evaluations use in their place; 0 for none.
      validation_fraction: share of the training images that is held out. With it, the best epoch by validation accuracy is
        tested; without it, all images train, and the last epoch is tested.
      test: test the network, once, at the end.
      data: the images.
      run: folder and seed.
      loop: epochs, logs and checkpoints.
      batches: size and order of the batches.
      augmentation: augmentation of the images.
      pictures: how large pictures become images.
      size: size of the network.
      weights: the weights' optimiser.
      rate: the weights' learning rate.
      norm: how activations are normalised.
      parallelism: the devices.
      calls: how many steps a call of the compiled program takes.
    """

    genotype: Annotated[str, tyro.conf.arg(metavar="GENOTYPE")] = "DARTS_V2"
    network: Stem = "cifar"
    auxiliary: bool = True
    auxiliary_weight: Annotated[float, NOT_NEGATIVE] = 0.4
    drop_path: Annotated[float, BELOW_ONE] = 0.2
    schedule: Schedule = "cosine"
    learning_rate_decay: Annotated[float, UP_TO_ONE] = 0.97
    label_smoothing: Annotated[float, BELOW_ONE] = 0.0
    ema_decay: Annotated[float, BELOW_ONE] = 0.0
    validation_fraction: Annotated[float, BELOW_ONE] = 0.0
    test: bool = True
    data: ImageData = ImageData()
    run: Run = Run()
    loop: Loop = Loop(epochs=600, keep_checkpoints=2)
    batches: ImageBatches = ImageBatches(batch_size=96)
    augmentation: ImageAugmentation = ImageAugmentation(cutout=16)
    pictures: LargePictures = LargePictures()
    size: NetworkSize = NetworkSize(channels=36, cells=20)
    weights: WeightOptimizer = WeightOptimizer()
    rate: LearningRate = LearningRate()
    norm: BatchNorm = BatchNorm()
    parallelism: Parallelism = Parallelism()
    calls: Calls = Calls()

    def check(self) -> None:
        """Checks every value that can be checked without the data.

        Raises:
          InputError: a value out of its range, or a genotype that cannot be found.
        """
        super().check()
        self.weights.check_use(WeightOptimizer(), self.rate.learning_rate)
        check_share(self.batches.batch_size, self.parallelism.devices, "--batch-size")
        self.pictures.check_use(self.data, self.network)
        if self.data.streams(self.network):
            self.check_streamed()
        self.model(classes=2)

    def check_streamed(self) -> None:
        """Refuses what has no effect on pictures that are read one by one.

        Raises:
          InputError: such an option is given.
        """
        if self.batches.split_seed is not None:
            raise InputError(
                f"--split-seed is for images in memory; leave it out with {self.data.dataset}, whose order has no pattern"
            )

    @property
    def cell(self) -> Genotype:
        """The genotype of the setting."""
        return find_genotype(self.genotype)

    def model(self, classes: int) -> DiscreteNetwork:
        """The network for a number of classes.

        Raises:
          InputError: the settings do not fit together.
        """
        make = cifar_network if self.network == "cifar" else imagenet_network
        return make(
            self.cell, channels=self.size.channels, cells=self.size.cells, classes=classes, auxiliary=self.auxiliary
        )

    @property
    def folder(self) -> Path:
        """The run's folder. The same settings give the same folder, so the same command resumes its run."""
        return self.run.folder("train", self.data.label, genotype_label(self.genotype, zoo.CELLS))

    def learning_rate_in(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        if self.schedule == "exponential":
            return self.rate.learning_rate * self.learning_rate_decay**epoch
        return float(
            optimizers.cosine(self.rate.learning_rate, self.rate.learning_rate_min, epochs=self.loop.epochs)[epoch]
        )

    def drop_path_in(self, epoch: int) -> float:
        """The probability of a dropped path in an epoch, counted from 0 (`drop_path · epoch / epochs`)."""
        return self.drop_path * epoch / self.loop.epochs

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON data; the genotype is always in its text form."""
        return as_json(self) | {"dataset": self.data.name, "genotype": str(self.cell)}
