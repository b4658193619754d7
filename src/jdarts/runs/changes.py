"""What a run has changed on its way: its number of epochs, its batches, and the devices that compute it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jdarts.errors import InputError
from jdarts.files.json_data import Fields
from jdarts.runs.same_run import BATCH_SIZE, EPOCHS

#: The number of devices that share a batch, in the record of a checkpoint.
DEVICES = "devices"


class Change(NamedTuple):
    """A setting that a run has changed on its way.

    Attributes:
      setting: its name: epochs, batch_size or devices.
      before: the number before.
      now: the number since.
      step: the step after which it has changed.
    """

    setting: str
    before: int
    now: int
    step: int

    def __str__(self) -> str:
        """The change in plain words."""
        if self.setting == EPOCHS:
            return f"extended from {self.before} to {self.now} epochs at step {self.step:,}"
        if self.setting == BATCH_SIZE:
            return f"batches of {self.now:,} images instead of {self.before:,} since step {self.step:,}"
        return f"{self.now} device{'s' if self.now > 1 else ''} instead of {self.before} since step {self.step:,}"


def new_changes(
    record: Mapping[str, Any], step: int, settings: Mapping[str, Any], devices: int, *, noun: str
) -> tuple[Change, ...]:
    """What a command changes of a run that it resumes.

    Args:
      record: of the checkpoint.
      step: of the checkpoint.
      settings: the settings of the command that decide the result, as JSON data.
      devices: how many share a batch.
      noun: the name of this kind of run in messages.

    Raises:
      InputError: a change that would make it another run.
    """
    values = {name: (setting_of(record, name), settings.get(name)) for name in (EPOCHS, BATCH_SIZE)}
    values[DEVICES] = record.get(DEVICES), devices
    found = [
        Change(name, before, now, step)
        for name, (before, now) in values.items()
        if isinstance(before, int) and isinstance(now, int) and before != now
    ]
    for change in found:
        if change.setting == EPOCHS and "stopped" in record:
            raise InputError(
                f"--stop has ended this {noun} before its {change.before} epochs were over, so that more of them change "
                "nothing; leave out --extend, or start another --run-dir without --stop"
            )
        if change.setting == DEVICES and settings.get("batch_statistics") == "per_device":
            raise InputError(
                f"--devices is {change.now}, and this {noun} has computed with {change.before}: with --batch-statistics "
                f"per_device the number decides the result; give --devices {change.before}, or choose another --run-dir"
            )
    return tuple(found)


def setting_of(record: Mapping[str, Any], name: str) -> Any:
    """A setting of the command that wrote a checkpoint, from its record; None if it has none."""
    config = record.get("config")
    return config.get(name) if isinstance(config, dict) else None


def read_changes(fields: Fields) -> tuple[Change, ...]:
    """The field `changes` of a summary or of a checkpoint's record; a `ValueError` if it is damaged."""
    if not fields.has("changes"):
        return ()
    return tuple(map(_change, fields.objects("changes")))


def _change(fields: Fields) -> Change:
    return Change(fields.text("setting"), fields.count("before"), fields.count("now"), fields.count("step"))
