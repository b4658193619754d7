"""The metrics of a run in files: one JSON object per line, and scalars for TensorBoard."""

import json
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, SupportsFloat

from jdarts.errors import InputError
from jdarts.files.atomic import replace_bytes
from jdarts.files.json_data import Fields, as_number, parse_json

METRICS_FILE = "metrics.jsonl"
#: Key of the epoch's number in the record of an epoch's means.
EPOCH = "epoch/number"
TENSORBOARD_FOLDER = "tensorboard"
_NOT_FINITE = ("nan", "inf", "-inf")


class MetricsLog:
    """Appends the metrics of a run to `metrics.jsonl` and to TensorBoard event files below `tensorboard/`.

    A line of `metrics.jsonl` is `{"step": 20, "time": 1735689600.0, "train/loss": 1.2, …}`, time in seconds
    since 1970. JSON has only finite numbers, so the others are the strings "nan", "inf" and "-inf";
    `read_metrics` converts them back.

    `write` passes its record to the operating system before it returns, in the caller's thread. So a process that is
    killed later loses nothing, and an error reaches the caller.

    Args:
      folder: the run's folder, created if it is missing.
      after_step: the step from which the run resumes. Records of later steps, which an earlier process
        wrote after its last checkpoint, are removed, and hidden in TensorBoard. 0 removes all.

    Raises:
      InputError: a file cannot be written, or `metrics.jsonl` holds something else.
    """

    def __init__(self, folder: str | os.PathLike[str], *, after_step: int = 0) -> None:
        self._path = Path(folder) / METRICS_FILE
        with _os_errors_as_input(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        records = _drop_after(self._path, after_step) if self._path.exists() else []
        self._epochs = {record[EPOCH] for record in records if EPOCH in record}
        with _os_errors_as_input(self._path):
            self._file = self._path.open("ab", buffering=0)
            self._size = os.fstat(self._file.fileno()).st_size
        try:
            self._events = _EventFile(self._path.parent / TENSORBOARD_FOLDER, after_step)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
        """Appends one record to both files.

        Args:
          step: the step of the numbers, counted from 1 over the whole run.
          values: numbers by name; anything that `float` accepts.

        Raises:
          InputError: the disk is full, permission is missing, …; earlier records stay intact.
        """
        now = time.time()
        numbers = {name: float(value) for name, value in values.items()}
        line = _line({"step": int(step), "time": now} | numbers)
        with _os_errors_as_input(self._path):
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
        self._events.write(step, now, numbers)

    def write_epoch(self, step: int, values: Mapping[str, SupportsFloat], number: int) -> None:
        """Appends the means of an epoch, with its number, counted from 1, as `epoch/number`.

        An epoch has one record: it may exist already if a process ended before the epoch's checkpoint.

        Raises:
          InputError: as for `write`.
        """
        if number not in self._epochs:
            self.write(step, {**values, EPOCH: number})
            self._epochs.add(number)

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
        """Closes both files."""
        self._file.close()
        self._events.close()


def read_metrics(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads the records of a run's `metrics.jsonl`, in the order of writing.

    An incomplete last line, left by a killed process, is skipped.

    Raises:
      InputError: the file is missing, or another line is not a record.
    """
    path = Path(folder) / METRICS_FILE
    with _os_errors_as_input(path, "read"):
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


class _EventFile:
    """A TensorBoard event file that is written synchronously.

    `tensorboardX.SummaryWriter` writes from a thread behind a queue: an error there prints a traceback, and `close`
    waits for ever.
    """

    def __init__(self, folder: Path, after_step: int) -> None:
        # Imported here: it takes a while, and `read_metrics` does not need it.
        from tensorboardX import RecordWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        # Typed as Any because protocol buffers create their classes at run time.
        self._event: Any = event_pb2
        self._summary: Any = summary_pb2
        self._failed = False
        with _os_errors_as_input(folder):
            folder.mkdir(exist_ok=True)
            # The count prevents that a second start in the same second overwrites the file of the first.
            count = len(list(folder.iterdir()))
            self._path = folder / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{count}"
            self._records = RecordWriter(str(self._path))
        self._append(wall_time=time.time(), file_version="brain.Event:2")
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        self._append(wall_time=time.time(), step=after_step + 1, session_log=start)

    def write(self, step: int, now: float, numbers: Mapping[str, float]) -> None:
        summary = self._summary.Summary()
        for name, number in numbers.items():
            summary.value.add(tag=name, simple_value=number)
        self._append(wall_time=now, step=step, summary=summary)

    def close(self) -> None:
        # After a failure, close writes the lost bytes again; that error was reported already.
        with suppress(OSError) if self._failed else _os_errors_as_input(self._path):
            self._records.close()

    def _append(self, **fields: Any) -> None:
        with _os_errors_as_input(self._path):
            try:
                self._records.write(self._event.Event(**fields).SerializeToString())
                self._records.flush()
            except OSError:
                self._failed = True
                raise


def _drop_after(path: Path, after_step: int) -> list[dict[str, Any]]:
    """Removes the records of later steps and an incomplete line from the file; returns the records that stay."""
    records = [record for record in read_metrics(path.parent) if record["step"] <= after_step]
    with _os_errors_as_input(path):
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


@contextmanager
def _os_errors_as_input(path: Path, what: str = "write") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        mend = "free some space or mend the folder" if what == "write" else "put it back or make it readable"
        raise InputError(
            f"cannot {what} {path}: {error.strerror or error}; {mend}, and start the same command again"
        ) from None
