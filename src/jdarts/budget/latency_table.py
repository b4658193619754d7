"""The table of latencies that the user's cache keeps for each device."""

import dataclasses
import datetime
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jdarts.errors import InputError
from jdarts.files.atomic import replace_text
from jdarts.files.json_data import parse_json
from jdarts.files.processor import processor_name
from jdarts.files.user_cache import cache_folder, is_private_file, private_folder
from jdarts.native.libraries import is_disabled


class Measurement(NamedTuple):
    """A measured latency.

    Attributes:
      nanoseconds: the latency.
      date: the day of the measurement, such as `2026-11-27`.
    """

    nanoseconds: int
    date: str


@dataclasses.dataclass
class LatencyTable:
    """Measured latencies of one device.

    Attributes:
      device: the device, in words.
      path: the file that keeps them.
      entries: the measurements by what was measured.
    """

    device: str
    path: Path
    entries: dict[str, Measurement]

    def known(self, what: str, measure: Callable[[], int]) -> int:
        """The latency of something; it is measured and kept unless the table has it."""
        if what not in self.entries:
            self.entries[what] = Measurement(measure(), datetime.date.today().isoformat())
            content = {"device": self.device, "measured": {name: each._asdict() for name, each in self.entries.items()}}
            try:
                replace_text(self.path, json.dumps(content, indent=1))
            except OSError as error:
                raise InputError(f"cannot write {self.path}: {error.strerror or error}; free the disk") from None
        return self.entries[what].nanoseconds


def device_words() -> str:
    """What latencies depend on besides the operations: the device, its cores, and the versions of the programs."""
    device = jax.devices()[0]
    words = [device.platform, device.device_kind]
    if device.platform == "cpu":
        words = [device.platform, processor_name(), f"{len(os.sched_getaffinity(0))} cores"]
        words += ["XLA's operations"] if is_disabled() else []
    return ", ".join([*words, f"jax {jax.__version__}"])


def read_table() -> LatencyTable:
    """The table of this device; empty if there is none, or if it is damaged.

    Raises:
      InputError: the user's cache cannot be used.
    """
    device = device_words()
    try:
        folder = private_folder(private_folder(cache_folder()) / "latency")
        path = folder / f"{hashlib.sha256(device.encode()).hexdigest()[:16]}.json"
        entries = _entries(path.read_text()) if path.exists() and is_private_file(path) else {}
    except OSError as error:
        raise InputError(
            f"latencies cannot be kept: {error}; give XDG_CACHE_HOME a folder that only you may write to"
        ) from None
    return LatencyTable(device, path, entries)


def _entries(text: str) -> dict[str, Measurement]:
    try:
        content = parse_json(text)
        measured: Any = content["measured"] if isinstance(content, dict) else {}
        entries = {str(name): Measurement(each["nanoseconds"], each["date"]) for name, each in measured.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
    whole = all(type(each.nanoseconds) is int and each.nanoseconds >= 0 for each in entries.values())
    return entries if whole and all(isinstance(each.date, str) for each in entries.values()) else {}
