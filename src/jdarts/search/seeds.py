"""Several searches that differ only in their seeds, run at once: one vmapped step, a folder for each."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO, overload

from jdarts import data, native
from jdarts.errors import InputError
from jdarts.network_tasks.calling import Network
from jdarts.network_tasks.settings import check_data_given
from jdarts.network_tasks.task import NetworkTask, check_task
from jdarts.runs import CompiledPrograms, RunFolder, processes
from jdarts.runs.batched import at_once
from jdarts.runs.devices import Devices, check_share
from jdarts.runs.folder import Fingerprint
from jdarts.runs.names import named_after
from jdarts.runs.same_run import allowed_changes
from jdarts.runs.settings import flat
from jdarts.runs.start import begin, check_finished, show
from jdarts.runs.store import Part
from jdarts.runs.summaries import Summary
from jdarts.runs.task import Task
from jdarts.runs.time_limit import limited
from jdarts.search import own_task, summary
from jdarts.search.batch_task import TaskSearch
from jdarts.search.building import search_task
from jdarts.search.config import SearchConfig
from jdarts.search.loop import title
from jdarts.search.memory_options import unused_memory_options
from jdarts.search.own_task import (
    NetworkSearchResult,
    NetworkSeedsSummary,
    check_own,
    fingerprint_of,
    network_on,
    network_task,
)
from jdarts.search.summary import SearchResult, SeedsSummary
from jdarts.search.task import SearchTask


@overload
def search_seeds(
    config: SearchConfig,
    *,
    network: None = None,
    dataset: data.ImageDataset | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> tuple[SearchResult, ...]: ...


@overload
def search_seeds(
    config: SearchConfig,
    *,
    network: Network,
    dataset: data.ImageDataset | None = None,
    task: NetworkTask | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> tuple[NetworkSearchResult, ...]: ...


def search_seeds(
    config: SearchConfig,
    *,
    network: Network | None = None,
    dataset: data.ImageDataset | None = None,
    task: NetworkTask | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> tuple[SearchResult, ...] | tuple[NetworkSearchResult, ...]:
    """Runs the searches of several seeds at once. Each has the result of a single search, up to rounding.

    Each folder is that of a single search, so either way of running resumes the other.

    Args:
      config: the settings, with `seeds`.
      network: as for `search`.
      dataset: as for `search`.
      task: as for `search`.
      stream: as for `search`.
      programs: as for `search`.

    Returns:
      The results, in the order of the seeds.

    Raises:
      InputError: as for `search`, or searches that have reached different steps.
      Interrupted: as for `search`.
    """
    if config.seeds is None:
        raise InputError("--seeds is not given; give seeds such as 0-3, or call search for one --seed")
    config.check()
    check_data_given(network, dataset, task)
    if network is not None:
        check_own(config)
    if task is not None:
        of_task = TaskSearch(config, network, check_task(task))
        config = of_task.config
        config.check()
        searches = _Searches(
            of_task.settings_of,
            of_task.fingerprint,
            own_task.read,
            lambda left, devices: of_task.on(devices, seeds=[each.run.seed for each in left]),
            NetworkSeedsSummary,
        )
    else:
        config = named_after(config, dataset, data.ImageDataset)
        searches = _on_images(config, network, functools.cache(lambda: config.data.images(dataset, stream)))
    with processes.fail_together(), limited(config.run.time_limit):
        processes.check_same(config)
        return _search_seeds(config, searches, stream, programs)


class _Searches(NamedTuple):
    """What several searches at once have in common.

    Attributes:
      settings: from the configuration of one to the settings that decide its result, as JSON data.
      fingerprint: reads the data.
      read: reads the summary of one that has finished.
      task: `(configurations of those that have not finished, devices) -> one task for all`.
      combined: from their summaries to one of all.
    """

    settings: Callable[[SearchConfig], Mapping[str, Any]]
    fingerprint: Callable[[], Fingerprint]
    read: Callable[[RunFolder], Summary[Any]]
    task: Callable[[list[SearchConfig], Devices], Task[Any]]
    combined: Callable[[tuple[Summary[Any], ...]], Any]


def _on_images(config: SearchConfig, network: Network | None, images: Callable[[], data.ImageDataset]) -> _Searches:
    """The searches on images, in cells or in the user's own network."""

    def task(left: list[SearchConfig], devices: Devices) -> SearchTask:
        if network is None:
            native.build_for_images(config.precision)
            single = search_task(left[0], images(), devices)
        else:
            single = network_task(left[0], network, images(), devices)
        stacked = at_once(single, [each.run.seed for each in left])
        return dataclasses.replace(stacked, memory_options=unused_memory_options(left[0], 1))

    if network is None:
        return _Searches(SearchConfig.to_json, lambda: images().fingerprint, summary.read, task, SeedsSummary)
    return _Searches(
        SearchConfig.to_json,
        lambda: fingerprint_of(network_on(config, network, images()), images()),
        own_task.read,
        task,
        NetworkSeedsSummary,
    )


def _search_seeds(
    config: SearchConfig, kind: _Searches, stream: TextIO | None, programs: CompiledPrograms | None
) -> tuple[Any, ...]:
    allowed = allowed_changes(flat(config))
    configs = config.of_each_seed()
    searches = [(each, RunFolder(each.folder, allowed=allowed), kind.settings(each)) for each in configs]
    for _, folder, settings in searches:
        folder.check(settings)
    summaries: dict[Path, Summary[Any]] = {}
    remarks: list[str] = []
    fingerprint = functools.cache(kind.fingerprint)
    for _, folder, settings in searches:
        if folder.is_finished(settings):
            remarks += check_finished(folder, settings, fingerprint)
            summaries[folder.path] = kind.read(folder)
    show([*(f"{path} has finished" for path in summaries), *remarks], stream)
    left = [each for each in searches if each[1].path not in summaries]
    if left:
        parts = [Part(folder, settings, title(each), f"seed {each.run.seed}") for each, folder, settings in left]
        begun = [each for each, _, _ in left]
        for ended in begin(
            lambda: kind.task(begun, _devices(config, len(begun))), parts, config.parallelism, stream, programs
        ):
            summaries[ended.result.folder] = ended
    combined = kind.combined(tuple(summaries[folder.path] for _, folder, _ in searches))
    show(combined.lines(), stream)
    return combined.result


def _devices(config: SearchConfig, left: int) -> Devices:
    """The devices for `left` searches; one of each process if they cannot share the rest equally, as some seeds have finished."""
    devices = Devices(config.parallelism.devices)
    if left % devices.count:
        devices = Devices(1)
    check_share(left, devices.count, "--seeds")
    return devices
