"""The table of latencies that the user's cache keeps for each device."""

import dataclasses
import hashlib
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

import jax

from jdarts.errors import InputError
from jdarts.files.atomic import replace_text
from jdarts.files.json_data import parse_json
from jdarts.files.user_cache import cache_folder, is_private_file, private_folder
from jdarts.native.libraries import is_disabled


@dataclasses.dataclass
class LatencyTable:
    """Measured latencies of one device.

    Attributes:
      device: the device, in words.
      path: the file that keeps them.
      entries: nanoseconds by what was measured.
    """

    device: str
    path: Path
    entries: dict[str, int]

    def known(self, what: str, measure: Callable[[], int]) -> int:
        """The latency of something; it is measured and kept unless the table has it."""
        if what not in self.entries:
            self.entries[what] = measure()
            try:
                replace_text(self.path, json.dumps({"device": self.device, "nanoseconds": self.entries}, indent=1))
            except OSError as error:
                raise InputError(f"cannot write {self.path}: {error.strerror or error}; free the disk") from None
        return self.entries[what]


def device_words() -> str:
    """What latencies depend on besides the operations: the device, its cores, and the versions of the programs."""
    device = jax.devices()[0]
    words = [device.platform, device.device_kind]
    if device.platform == "cpu":
        words = [device.platform, _processor(), f"{len(os.sched_getaffinity(0))} cores"]
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


def _entries(text: str) -> dict[str, int]:
    try:
        content = parse_json(text)
    except ValueError:
        return {}
    entries = content.get("nanoseconds") if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not all(type(value) is int and value >= 0 for value in entries.values()):
        return {}
    return entries


def _processor() -> str:
    """The name of the processor's model."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n")
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
