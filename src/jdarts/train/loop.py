"""The training of a genotype's network."""

import dataclasses
import functools
from typing import TextIO

from jdarts import data, native
from jdarts.runs import CompiledPrograms, run
from jdarts.runs.devices import Devices
from jdarts.runs.names import named_after
from jdarts.train import summary
from jdarts.train.config import TrainConfig
from jdarts.train.summary import TrainResult
from jdarts.train.task import TrainTask, train_task


def train(
    config: TrainConfig,
    *,
    dataset: data.ImageDataset | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> TrainResult:
    """Trains a network of a genotype's cells, or resumes an interrupted training.

    The run's folder decides. A new folder starts a run. A folder with checkpoints resumes from the newest complete one, and
    ends with the same bits as an undisturbed run on the same kind of device. A finished run is only reported.

    The test images are read once, at the end, and influence no choice.

    Args:
      config: the settings.
      dataset: images that are not one of `jdarts.data.NAMES`; their name then replaces `config.data.dataset`.
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
    # The genotype itself, since the file or folder that holds it may change during the run.
    config = dataclasses.replace(config, genotype=str(config.cell), run_dir=config.folder)

    images = functools.cache(lambda: config.data.open(dataset, config.network, stream))

    def task() -> TrainTask:
        # Missing devices are refused before the data are read.
        devices = Devices(config.parallelism.devices, config.parallelism.parallel)
        native.build_for_images("float32")
        return train_task(config, images(), devices)

    return run(
        config,
        task,
        noun=TrainTask.noun,
        fingerprint=lambda: images().fingerprint,
        finished=summary.read,
        stream=stream,
        programs=programs,
    )
