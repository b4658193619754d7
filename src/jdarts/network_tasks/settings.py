"""The settings of a run in the user's own network: those of a configuration that it reads."""

import dataclasses
from collections.abc import Collection
from typing import Any

from jdarts.errors import InputError, shown
from jdarts.network_tasks.reading import TaskData
from jdarts.network_tasks.task import NetworkTask
from jdarts.runs.bounds import option
from jdarts.runs.image_options import ImageAugmentation, ImageBatches, ImageData, LargePictures
from jdarts.runs.settings import flat


def image_settings() -> frozenset[str]:
    """The settings of images that a task has in their place, but for its name and the size of its batches."""
    parts = ImageData(), ImageBatches(), ImageAugmentation(), LargePictures()
    return frozenset(name for part in parts for name in flat(part)) - {"dataset", "batch_size"}


def check_data_given(network: object, dataset: object, task: object) -> None:
    """Refuses a task beside images, or without a network.

    Raises:
      InputError: so it is.
    """
    if task is None:
        return
    if network is None:
        raise InputError("task is given, and no network that it is for; give network=")
    if dataset is not None:
        raise InputError("task and dataset are given, and both are the data; leave one of the two out")


def read_settings(config: Any, unread: Collection[str]) -> dict[str, Any]:
    """The settings that decide the result, as JSON data, without those that nothing reads.

    Args:
      config: the configuration.
      unread: names of settings.
    """
    return {name: value for name, value in config.to_json().items() if name not in unread}


def check_unread(config: Any, usual: Any, unread: Collection[str], why: str) -> None:
    """Refuses settings that nothing reads.

    Args:
      config: the configuration.
      usual: the same with the defaults.
      unread: names of settings.
      why: what the message says of them.

    Raises:
      InputError: one of them is given.
    """
    given, defaults = flat(config), flat(usual)
    for name in sorted(unread):
        if name in given and given[name] != defaults[name]:
            raise InputError(f"{option(name)} is {shown(given[name])}, and {why}; leave it out")


def check_single_steps(config: Any) -> None:
    """Refuses several steps in one call of a program, since the host hands over the batches of each step.

    Raises:
      InputError: the configuration has several.
    """
    if (steps := config.calls.steps_per_call) > 1:
        raise InputError(f"--steps-per-call is {steps}, and the host hands over the batches of each step; leave it out")


def with_task(config: Any, usual: Any, task: NetworkTask, data: TaskData) -> Any:
    """A configuration with the name of a task and the size of its batches.

    Args:
      config: a configuration of a run on images.
      usual: the same with the defaults.
      task: the task.
      data: its data.

    Raises:
      InputError: it has other data, or batches of another size.
    """
    own = {"dataset": task.name, "batch_size": data.train.size}
    given, defaults = flat(config), flat(usual)
    for name, value in own.items():
        if given[name] not in (defaults[name], value):
            raise InputError(f"{option(name)} is {shown(given[name])}, and that of the task is {value}; leave it out")
    return dataclasses.replace(config, **own)
