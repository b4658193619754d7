"""The training of a genotype's network."""

import dataclasses
import functools
from typing import TextIO, overload

from jdarts import data, native
from jdarts.network_tasks.calling import Network
from jdarts.network_tasks.settings import check_data_given
from jdarts.network_tasks.task import NetworkTask, check_task
from jdarts.runs import CompiledPrograms, run
from jdarts.runs.devices import Devices
from jdarts.runs.names import named_after
from jdarts.train import network_summary, summary
from jdarts.train.config import TrainConfig
from jdarts.train.network_images import image_task
from jdarts.train.network_summary import NetworkTrainResult
from jdarts.train.network_task import NetworkTraining, NetworkTrainTask
from jdarts.train.summary import TrainResult
from jdarts.train.task import TrainTask, train_task


@overload
def train(
    config: TrainConfig,
    *,
    network: None = None,
    dataset: data.ImageDataset | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> TrainResult: ...


@overload
def train(
    config: TrainConfig,
    *,
    network: Network,
    dataset: data.ImageDataset | None = None,
    task: NetworkTask | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> NetworkTrainResult: ...


def train(
    config: TrainConfig,
    *,
    network: Network | None = None,
    dataset: data.ImageDataset | None = None,
    task: NetworkTask | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> TrainResult | NetworkTrainResult:
    """Trains a network of a genotype's cells, or one of your own, or resumes an interrupted training.

    The run's folder decides. A new folder starts a run. A folder with checkpoints resumes from the newest complete one, and
    ends with the same bits as an undisturbed run on the same kind of device. A finished run is only reported.

    The test images are read once, at the end, and influence no choice.

    Args:
      config: the settings.
      network: a network of Linen or NNX, such as the one that `jdarts.decided` returns, in the place of the genotype's: from
        images `[B, H, W, C]` to logits, or from what a `task` gives it; otherwise as for `jdarts.search.search`.
      dataset: images that are not one of `jdarts.data.NAMES`; their name then replaces `config.data.dataset`.
      task: loss, metrics and batches for a `network`, in the place of images.
      stream: where progress is shown; standard output by default.
      programs: compiled functions to share with other trainings of this process.

    Returns:
      The result.

    Raises:
      InputError: settings, data or folder do not fit, the disk is full, or a loss is not finite.
      Interrupted: SIGINT or SIGTERM came, or the time limit is over; the state was saved first.
    """
    config.check()
    check_data_given(network, dataset, task)
    if network is not None:
        return _train_network(config, network, dataset, task, stream, programs)
    config = named_after(config, dataset, data.ImageDataset)
    # The genotype itself, since the file or folder that holds it may change during the run.
    config = dataclasses.replace(config, genotype=str(config.cell), run_dir=config.folder)

    images = functools.cache(lambda: config.data.open(dataset, config.network, config.folder, stream))

    def of_cells() -> TrainTask:
        # Missing devices are refused before the data are read.
        devices = Devices(config.parallelism.devices, config.parallelism.parallel)
        native.build_for_images("float32")
        return train_task(config, images(), devices)

    return run(
        config,
        of_cells,
        noun=TrainTask.noun,
        fingerprint=lambda: images().fingerprint,
        finished=summary.read,
        stream=stream,
        programs=programs,
    )


def _train_network(
    config: TrainConfig,
    network: Network,
    dataset: data.ImageDataset | None,
    task: NetworkTask | None,
    stream: TextIO | None,
    programs: CompiledPrograms | None,
) -> NetworkTrainResult:
    if task is None:
        config = named_after(config, dataset, data.ImageDataset)
        images = config.data.images(dataset, stream)
        training = NetworkTraining(config, network, image_task(config, images), images=images)
    else:
        training = NetworkTraining(config, network, check_task(task))
    parallelism = training.config.parallelism
    return run(
        training.config,
        lambda: training.on(Devices(parallelism.devices, parallelism.parallel)),
        noun=NetworkTrainTask.noun,
        fingerprint=training.fingerprint,
        finished=network_summary.read,
        settings=training.settings,
        stream=stream,
        programs=programs,
    )
