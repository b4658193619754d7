"""Several searches that differ only in their seeds, run at once: one vmapped step, a folder for each."""

import dataclasses
import functools
from pathlib import Path
from typing import TextIO

from jdarts import data, native
from jdarts.runs import CompiledPrograms, RunFolder, processes
from jdarts.runs.batched import batched
from jdarts.runs.devices import Devices, check_share
from jdarts.runs.names import named_after
from jdarts.runs.same_run import allowed_changes
from jdarts.runs.settings import flat
from jdarts.runs.start import begin, check_finished, show
from jdarts.runs.store import Part
from jdarts.search import summary
from jdarts.search.building import search_task
from jdarts.search.config import SearchConfig
from jdarts.search.loop import title
from jdarts.search.memory_options import unused_memory_options
from jdarts.search.summary import SearchResult, SeedsSummary
from jdarts.search.task import SearchTask


def search_seeds(
    config: SearchConfig,
    *,
    dataset: data.ImageDataset | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> tuple[SearchResult, ...]:
    """Runs the searches of several seeds at once. Each has the result of a single search, up to rounding.

    Each folder is that of a single search, so either way of running resumes the other.

    Args:
      config: the settings, with `seeds`.
      dataset: as for `search`.
      stream: as for `search`.
      programs: as for `search`.

    Returns:
      The results, in the order of the seeds.

    Raises:
      InputError: as for `search`, or searches that have reached different steps.
      Interrupted: as for `search`.
    """
    config.check()
    config = named_after(config, dataset, data.ImageDataset)
    with processes.fail_together():
        processes.check_same(config)
        return _search_seeds(config, dataset, stream, programs)


def _search_seeds(
    config: SearchConfig, dataset: data.ImageDataset | None, stream: TextIO | None, programs: CompiledPrograms | None
) -> tuple[SearchResult, ...]:
    allowed = allowed_changes(flat(config))
    searches = [(each, RunFolder(each.folder, allowed=allowed)) for each in config.of_each_seed()]
    for each, folder in searches:
        folder.check(each.to_json())
    images = functools.cache(lambda: config.data.images(dataset, stream))
    summaries: dict[Path, summary.SearchSummary] = {}
    remarks: list[str] = []
    for each, folder in searches:
        if folder.is_finished(each.to_json()):
            remarks += check_finished(folder, each.to_json(), lambda: images().fingerprint)
            summaries[folder.path] = summary.read(folder)
    show([*(f"{path} has finished" for path in summaries), *remarks], stream)
    left = [(each, folder) for each, folder in searches if folder.path not in summaries]
    if left:
        parts = [Part(folder, each.to_json(), title(each), f"seed {each.run.seed}") for each, folder in left]
        for ended in begin(
            lambda: _task([each for each, _ in left], config, images()), parts, config.parallelism, stream, programs
        ):
            summaries[ended.result.folder] = ended
    combined = SeedsSummary(tuple(summaries[folder.path] for _, folder in searches))
    show(combined.lines(), stream)
    return combined.result


def _task(left: list[SearchConfig], config: SearchConfig, dataset: data.ImageDataset) -> SearchTask:
    """One task for the searches that have not finished."""
    devices = _devices(config, len(left))
    native.build_for_images(config.precision)
    single = search_task(left[0], dataset, devices)
    seeds = [each.run.seed for each in left]
    listed = ", ".join(map(str, seeds))
    stacked = batched(single, seeds, description=f"{len(seeds)} searches at once, seeds {listed}: {single.description}")
    return dataclasses.replace(stacked, memory_options=unused_memory_options(left[0], 1))


def _devices(config: SearchConfig, left: int) -> Devices:
    """The devices for `left` searches; one of each process if they cannot share the rest equally, as some seeds have finished."""
    devices = Devices(config.parallelism.devices)
    if left % devices.count:
        devices = Devices(1)
    check_share(left, devices.count, "--seeds")
    return devices
