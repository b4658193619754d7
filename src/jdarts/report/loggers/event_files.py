"""TensorBoard event files."""

import io
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from jdarts.report.file_errors import os_errors_as_input
from jdarts.report.loggers.interface import EpochCells

FOLDER = "tensorboard"
_BINS = 30


class EventFile:
    """A TensorBoard event file that is written synchronously.

    `tensorboardX.SummaryWriter` writes from a thread behind a queue: an error there prints a traceback, and `close`
    waits for ever.

    Args:
      folder: the run's folder.
      after_step: TensorBoard hides what earlier files have of later steps.

    Raises:
      InputError: the file cannot be written.
    """

    def __init__(self, folder: Path, after_step: int) -> None:
        # Imported here: it takes a while, and runs that log elsewhere do not need it.
        from tensorboardX import RecordWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        # Typed as Any because protocol buffers create their classes at run time.
        self._event: Any = event_pb2
        self._summary: Any = summary_pb2
        self._failed = False
        folder = folder / FOLDER
        with os_errors_as_input(folder):
            folder.mkdir(exist_ok=True)
            # The count prevents that a second start in the same second overwrites the file of the first.
            count = len(list(folder.iterdir()))
            self._path = folder / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{count}"
            self._records = RecordWriter(str(self._path))
        self._append(wall_time=time.time(), file_version="brain.Event:2")
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        self._append(wall_time=time.time(), step=after_step + 1, session_log=start)

    def write(self, step: int, now: float, numbers: Mapping[str, float], epoch: int | None) -> None:
        """As `Logger.write`."""
        del epoch
        summary = self._summary.Summary()
        for name, number in numbers.items():
            summary.value.add(tag=name, simple_value=number)
        self._append(wall_time=now, step=step, summary=summary)

    def write_cells(self, step: int, now: float, cells: EpochCells) -> None:
        """As `Logger.write_cells`."""
        from PIL import Image
        from tensorboardX.summary import make_histogram

        summary = self._summary.Summary()
        for kind, weights in cells.alphas.items():
            summary.value.add(tag=f"alphas/{kind}", histo=make_histogram(weights.ravel(), _BINS))
        if cells.picture is not None:
            width, height = Image.open(io.BytesIO(cells.picture)).size
            colours = self._summary.Summary.Image(
                width=width, height=height, colorspace=4, encoded_image_string=cells.picture
            )
            summary.value.add(tag="cells", image=colours)
        self._append(wall_time=now, step=step, summary=summary)

    def close(self, *, failed: bool) -> None:
        """As `Logger.close`."""
        del failed
        # After a failure, close writes the lost bytes again; that error was reported already.
        with suppress(OSError) if self._failed else os_errors_as_input(self._path):
            self._records.close()

    def _append(self, **fields: Any) -> None:
        with os_errors_as_input(self._path):
            try:
                self._records.write(self._event.Event(**fields).SerializeToString())
                self._records.flush()
            except OSError:
                self._failed = True
                raise
