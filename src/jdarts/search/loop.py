"""A search from a configuration to a genotype."""

import functools
from collections.abc import Callable
from typing import TextIO, overload

from jdarts import data, native
from jdarts.data.streamed.dataset import LargeDataset
from jdarts.errors import InputError
from jdarts.network_tasks.calling import Network
from jdarts.network_tasks.settings import check_data_given
from jdarts.network_tasks.task import NetworkTask, check_task
from jdarts.runs import CompiledPrograms, run
from jdarts.runs.devices import Devices, check_share
from jdarts.runs.names import named_after
from jdarts.runs.time_limit import limited
from jdarts.search import own_task, stages, summary
from jdarts.search.batch_task import BatchSearchTask, TaskSearch
from jdarts.search.building import search_task
from jdarts.search.config import SearchConfig
from jdarts.search.own_task import (
    NetworkSearchResult,
    NetworkSearchTask,
    check_own,
    fingerprint_of,
    network_on,
    network_task,
)
from jdarts.search.summary import SearchResult
from jdarts.search.task import SearchTask


@overload
def search(
    config: SearchConfig,
    *,
    network: None = None,
    dataset: data.ImageDataset | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> SearchResult: ...


@overload
def search(
    config: SearchConfig,
    *,
    network: Network,
    dataset: data.ImageDataset | None = None,
    task: NetworkTask | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> NetworkSearchResult: ...


def search(
    config: SearchConfig,
    *,
    network: Network | None = None,
    dataset: data.ImageDataset | None = None,
    task: NetworkTask | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> SearchResult | NetworkSearchResult:
    """Searches for a pair of cells or in a network of your own, or resumes an interrupted search.

    The run's folder decides. A new folder starts a run. A folder with checkpoints resumes from the newest complete one, and
    ends with the same bits as an undisturbed run on the same kind of device. A finished run is only reported.

    Args:
      config: the settings.
      network: a Linen network with `jdarts.Choice`, which takes the place of the supernet: from images `[B, H, W, C]` to
        logits, or from what a `task` gives it. Its call may take `train`, and its field `axis_name` names the axis of devices for
        its batch norms. Or a model of NNX with `jdarts.choice.nnx.Choice`, whose weights are those at the start; or its class
        (any function from `nnx.Rngs` to a model), which makes new weights from the seed.
      dataset: images that are not one of `jdarts.data.NAMES`; their name then replaces `config.data.dataset`.
      task: loss, metrics and batches for a `network`, in the place of images.
      stream: where progress is shown; standard output by default.
      programs: compiled functions to share with other searches of this process.

    Returns:
      The result.

    Raises:
      InputError: settings, data or folder do not fit, the disk is full, or a loss is not finite.
      Interrupted: SIGINT or SIGTERM came, or the time limit is over; the state was saved first.
    """
    check_data_given(network, dataset, task)
    if network is not None and config.seeds is not None:
        raise InputError(f"--seeds is {config.seeds}; call search_seeds, which searches with all of them at once")
    if task is not None:
        return _search_with_task(config, network, task, stream, programs)
    config = named_after(config, dataset, data.ImageDataset)
    if network is not None:
        in_memory = functools.cache(lambda: config.data.images(dataset, stream))
        return _search_network(config, network, in_memory, stream, programs)
    images = functools.cache(lambda: config.data.open(dataset, config.network, config.folder, stream))
    if not config.staging.is_whole:
        return _run(config, images, lambda devices: search_task(config, images(), devices), stream, programs)
    config.check()
    stages.check_folder(config)
    before, result = None, None
    with limited(config.run.time_limit):
        while before is None or before.staging.stage < config.staging.count:
            stage = stages.next_stage(config, before, None if result is None else result.alphas)
            of_stage = functools.partial(_stage_task, stage, before, images)
            before, result = stage, _run(stage, images, of_stage, stream, programs)
    assert result is not None
    return result


def _search_network(
    config: SearchConfig,
    network: Network,
    images: Callable[[], data.ImageDataset],
    stream: TextIO | None,
    programs: CompiledPrograms | None,
) -> NetworkSearchResult:
    check_own(config)

    def task() -> NetworkSearchTask:
        devices = _devices(config)
        return network_task(config, network, images(), devices)

    return run(
        config,
        task,
        noun=NetworkSearchTask.noun,
        fingerprint=lambda: fingerprint_of(network_on(config, network, images()), images()),
        finished=own_task.read,
        title=title(config),
        stream=stream,
        programs=programs,
    )


def _search_with_task(
    config: SearchConfig,
    network: Network | None,
    task: NetworkTask,
    stream: TextIO | None,
    programs: CompiledPrograms | None,
) -> NetworkSearchResult:
    check_own(config)
    search = TaskSearch(config, network, check_task(task))
    return run(
        search.config,
        lambda: search.on(_devices(search.config)),
        noun=BatchSearchTask.noun,
        fingerprint=search.fingerprint,
        finished=own_task.read,
        title=title(search.config),
        settings=search.settings,
        stream=stream,
        programs=programs,
    )


def _devices(config: SearchConfig) -> Devices:
    """The devices of a search; missing ones are refused before the data are read."""
    devices = Devices(config.parallelism.devices, config.parallelism.parallel)
    check_share(config.batches.batch_size, devices.count, "--batch-size")
    return devices


def _stage_task(
    stage: SearchConfig,
    before: SearchConfig | None,
    images: Callable[[], data.ImageDataset | LargeDataset],
    devices: Devices,
) -> SearchTask:
    return stages.stage_task(stage, before, images(), devices)


def _run(
    config: SearchConfig,
    images: Callable[[], data.ImageDataset | LargeDataset],
    task_on: Callable[[Devices], SearchTask],
    stream: TextIO | None,
    programs: CompiledPrograms | None,
) -> SearchResult:
    """One run: a whole search, or one of its stages."""

    def task() -> SearchTask:
        devices = _devices(config)
        native.build_for_images(config.precision)
        return task_on(devices)

    return run(
        config,
        task,
        noun=SearchTask.noun,
        fingerprint=lambda: images().fingerprint,
        finished=summary.read,
        title=title(config),
        stream=stream,
        programs=programs,
    )


def title(config: SearchConfig) -> str:
    """The title of the drawings of a search's cells."""
    return f"{config.data.dataset}, seed {config.run.seed}"
