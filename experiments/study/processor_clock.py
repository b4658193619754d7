"""The processor time that a process uses between two moments: other work on the machine changes it less than the clock's time."""

import threading
import time
from types import TracebackType

import numpy as np


class ProcessorClock:
    """Looks at this process's processor time at short intervals, within a `with` statement.

    So the time between two records of a run is known, which are written somewhere in the program.
    """

    def __init__(self, interval: float = 0.02) -> None:
        """Takes the interval, in seconds."""
        self._interval, self._ended = interval, threading.Event()
        self._readings: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._read_until_the_end, daemon=True)

    def __enter__(self) -> "ProcessorClock":
        self._read()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._read()

    def used(self, start: float, end: float) -> float | None:
        """The processor seconds of all threads between two moments.

        Args:
          start: seconds since 1970.
          end: likewise.

        Returns:
          None if this clock has not run from start to end.
        """
        moments, used = np.array(self._readings).T
        if start < moments[0] or end > moments[-1]:
            return None
        first, last = np.interp((start, end), moments, used)
        return float(last - first)

    def _read(self) -> None:
        self._readings.append((time.time(), time.process_time()))

    def _read_until_the_end(self) -> None:
        while not self._ended.wait(self._interval):
            self._read()
