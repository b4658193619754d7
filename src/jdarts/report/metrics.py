"""The metrics of a run in a file with one JSON object per line, and in the loggers that the run has."""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, SupportsFloat

from jdarts.errors import InputError
from jdarts.files.atomic import replace_bytes
from jdarts.files.json_data import Fields, as_number, parse_json
from jdarts.report.file_errors import os_errors_as_input
from jdarts.report.loggers import EpochCells, LoggerName, open_loggers

METRICS_FILE = "metrics.jsonl"
#: Key of the epoch's number in the record of an epoch's means.
EPOCH = "epoch/number"
_NOT_FINITE = ("nan", "inf", "-inf")


class MetricsLog:
    """Appends the metrics of a run to `metrics.jsonl` and gives them to loggers, by default TensorBoard's event files.

    A line of `metrics.jsonl` is `{"step": 20, "time": 1735689600.0, "train/loss": 1.2, …}`, time in seconds
    since 1970. JSON has only finite numbers, so the others are the strings "nan", "inf" and "-inf";
    `read_metrics` converts them back.

    `write` passes its record to the operating system before it returns, in the caller's thread. So a process that is
    killed later loses nothing, and an error reaches the caller.

    Args:
      folder: the run's folder, created if it is missing.
      after_step: the step from which the run resumes. Records of later steps, which an earlier process
        wrote after its last checkpoint, are removed, and hidden in TensorBoard. 0 removes all.
      loggers: where the numbers are logged besides.
      settings: the settings that decide the run's result, as JSON data, for loggers that show them.

    Raises:
      InputError: a file cannot be written, `metrics.jsonl` holds something else, or a logger cannot be opened.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        after_step: int = 0,
        loggers: Sequence[LoggerName] = ("tensorboard",),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._path = Path(folder) / METRICS_FILE
        with os_errors_as_input(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        records = _drop_after(self._path, after_step) if self._path.exists() else []
        self._epochs = {record[EPOCH] for record in records if EPOCH in record}
        with os_errors_as_input(self._path):
            self._file = self._path.open("ab", buffering=0)
            self._size = os.fstat(self._file.fileno()).st_size
        with ExitStack() as stack:
            stack.callback(self._file.close)
            self._loggers = stack.enter_context(open_loggers(loggers, self._path.parent, after_step, settings or {}))
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def write(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
        """Appends one record to the file and gives it to the loggers.

        Args:
          step: the step of the numbers, counted from 1 over the whole run.
          values: numbers by name; anything that `float` accepts.

        Raises:
          InputError: the disk is full, permission is missing, …; earlier records stay intact.
        """
        now = time.time()
        numbers = {name: float(value) for name, value in values.items()}
        line = _line({"step": int(step), "time": now} | numbers)
        with os_errors_as_input(self._path):
            end = self._checked_size()
            self._size = end + len(line)
            try:
                while line:
                    line = line[self._file.write(line) :]
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._file.fileno(), end)
                self._size = end
                raise
        epoch = int(numbers[EPOCH]) if EPOCH in numbers else None
        for logger in self._loggers:
            logger.write(step, now, numbers, epoch)

    def write_epoch(self, step: int, values: Mapping[str, SupportsFloat], number: int) -> None:
        """Appends the means of an epoch, with its number, counted from 1, as `epoch/number`.

        An epoch has one record: it may exist already if a process ended before the epoch's checkpoint.

        Raises:
          InputError: as for `write`.
        """
        if number not in self._epochs:
            self.write(step, {**values, EPOCH: number})
            self._epochs.add(number)

    def write_cells(
        self, step: int, epoch: int, alphas: Mapping[str, Any], picture: Callable[[], bytes] | None = None
    ) -> None:
        """Gives the cells and alphas of an epoch to the loggers; `metrics.jsonl` has none.

        Args:
          step: the step at the end of the epoch.
          epoch: the epoch, counted from 1.
          alphas: weights of the mixture `[E, O]` by kind of cell.
          picture: draws the cells as a PNG; None if they are those of the epoch before.

        Raises:
          InputError: a logger fails.
        """
        if self._loggers and (alphas or picture is not None):
            cells = EpochCells(epoch, None if picture is None else picture(), alphas)
            for logger in self._loggers:
                logger.write_cells(step, time.time(), cells)

    def _checked_size(self) -> int:
        """The size of the file, after a check that nobody has moved or changed it."""
        ours = os.fstat(self._file.fileno())
        try:
            in_place = os.path.samestat(ours, os.stat(self._path))
        except FileNotFoundError:
            in_place = False
        if not in_place:
            raise InputError(
                f"{self._path} was removed or replaced while the run wrote it; put it back and start the same command again"
            )
        if ours.st_size != self._size:
            raise InputError(
                f"{self._path} was changed while the run wrote it: it has {ours.st_size:,} bytes, and {self._size:,} were "
                "written; put it back and start the same command again"
            )
        return ours.st_size

    def close(self) -> None:
        """Closes the file and the loggers."""
        self._open.close()


def read_metrics(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads the records of a run's `metrics.jsonl`, in the order of writing.

    An incomplete last line, left by a killed process, is skipped.

    Raises:
      InputError: the file is missing, or another line is not a record.
    """
    path = Path(folder) / METRICS_FILE
    with os_errors_as_input(path, "read"):
        lines = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(_record(line))
        except ValueError:
            # The text after the last line break is empty or incomplete.
            if number < len(lines):
                raise InputError(
                    f"{path}, line {number} is not a record of metrics: {line[:60]!r}; remove that line"
                ) from None
    return records


def _drop_after(path: Path, after_step: int) -> list[dict[str, Any]]:
    """Removes the records of later steps and an incomplete line from the file; returns the records that stay."""
    records = [record for record in read_metrics(path.parent) if record["step"] <= after_step]
    with os_errors_as_input(path):
        replace_bytes(path, b"".join(map(_line, records)))
    return records


def _line(record: Mapping[str, float]) -> bytes:
    valid = {key: value if math.isfinite(value) else str(value) for key, value in record.items()}
    return f"{json.dumps(valid, allow_nan=False)}\n".encode()


def _record(line: bytes) -> dict[str, Any]:
    """The step, then numbers by name; raises a `ValueError` for a line that is not a record."""
    content = parse_json(line)
    return {"step": Fields(content).count("step")} | {
        name: _number(value) for name, value in content.items() if name != "step"
    }


def _number(value: object) -> float:
    number = float(value) if isinstance(value, str) and value in _NOT_FINITE else as_number(value)
    if number is None:
        raise ValueError(f"{value!r} is not a number")
    return number
