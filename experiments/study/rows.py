"""A table that is measured cell by cell, each with a file as soon as it is there: a kill loses one cell at most."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jdarts.errors import InputError
from jdarts.files.atomic import replace_text
from jdarts.files.json_data import Fields, parse_json

from .machine import machine


class Measured(NamedTuple):
    """A measured cell.

    Attributes:
      rows: its rows.
      seconds: that it took.
      processor_seconds: of all cores together.
      machine: processor, cores, devices and versions of packages.
    """

    rows: list[dict[str, Any]]
    seconds: float
    processor_seconds: float
    machine: dict[str, Any]


class Table:
    """The files of the cells of one study, in one folder.

    Args:
      folder: the folder, created with the first cell.
      settings: JSON data of all that the rows depend on beside the cell. Files of other settings are not read.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._folder = folder
        self._settings = json.loads(json.dumps(settings))

    def finished(self, cell: Mapping[str, Any]) -> Measured | None:
        """The rows of a cell, if they are there.

        Raises:
          InputError: the file of the cell is damaged.
        """
        path = self._file(cell)
        if not path.exists():
            return None
        try:
            fields = Fields(parse_json(path.read_text(encoding="utf-8")))
            seconds = fields.seconds("seconds"), fields.seconds("processor_seconds")
            return Measured(list(fields.get("rows")), *seconds, dict(fields.get("machine")))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path} is damaged ({error}); remove it, and the cell is measured again") from error

    def measure(
        self, cell: Mapping[str, Any], measure: Callable[[Mapping[str, Any], Path], Sequence[Mapping[str, Any]]]
    ) -> Measured:
        """Measures a cell and writes its file.

        Args:
          cell: the cell.
          measure: gives its rows; gets the cell and a folder that is the cell's own, where what it began is found again.
        """
        work = self._folder / "work" / self._name(cell)
        work.mkdir(parents=True, exist_ok=True)
        start, processor_start = time.monotonic(), _processor_seconds()
        rows = [{**cell, **row} for row in measure(cell, work)]
        found = Measured(rows, time.monotonic() - start, _processor_seconds() - processor_start, machine())
        content = {"cell": cell, "settings": self._settings, **found._asdict()}
        replace_text(self._file(cell), json.dumps(content, indent=1, allow_nan=False) + "\n")
        return found

    def all_finished(self, cells: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Measured]]:
        """The cells that are there."""
        for cell in cells:
            if (found := self.finished(cell)) is not None:
                yield cell, found

    def _file(self, cell: Mapping[str, Any]) -> Path:
        return self._folder / f"{self._name(cell)}.json"

    def _name(self, cell: Mapping[str, Any]) -> str:
        """A readable name that no other cell and no other settings have."""
        identity = json.dumps([cell, self._settings], sort_keys=True)
        words = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(f"{value}" for value in cell.values()))[:80]
        return f"{words}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _processor_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
