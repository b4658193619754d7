"""SIGINT, SIGTERM and the time limit as a request to stop after the current step."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from jdarts.runs.time_limit import TIME_IS_UP, time_limit

Value = TypeVar("Value")


class Interrupted(Exception):
    """A signal or the time limit asked the run to stop; it has saved its state and can be resumed.

    Args:
      number: of the signal, or `TIME_IS_UP`.

    Attributes:
      exit_code: of the command.
    """

    def __init__(self, number: int) -> None:
        is_signal = number != TIME_IS_UP
        super().__init__(signal.Signals(number).name if is_signal else "--time-limit")
        self.exit_code = 128 + number if is_signal else number


class Interruption:
    """A context that remembers the first SIGINT or SIGTERM; a second one ends the process at once.

    Outside the main thread, where signals cannot be caught, it does nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._interruptible = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        # The system's default action for the next signal ends the process even while a long step keeps Python waiting.
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)
        self.signal = number
        if self._interruptible:
            raise Interrupted(number)

    def asked(self, *, within_limit: bool) -> int:
        """The signal that has come, `TIME_IS_UP` if the time limit is over, or 0.

        Args:
          within_limit: whether the time limit counts.
        """
        limit = time_limit()
        late = within_limit and limit is not None and limit.is_over
        return self.signal or (TIME_IS_UP if late else 0)

    def check(self) -> None:
        """Raises `Interrupted` if a signal has come."""
        if self.signal is not None:
            raise Interrupted(self.signal)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Marks work that can be abandoned, such as reading data: a signal stops it at once.

        Raises:
          Interrupted: a signal came.
        """
        self._interruptible = True
        try:
            self.check()
            yield
        finally:
            self._interruptible = False

    def wait_for(self, work: Callable[[], Value]) -> Value:
        """Does work that cannot be stopped, such as a compilation, in a thread, so that signals are noticed.

        Raises:
          Interrupted: a signal came. The thread still works; `exit_now` ends the process without it.
        """
        values: list[Value] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                values.append(work())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        with self.interruptible():
            thread.start()
            thread.join()
        if errors:
            raise errors[0]
        return values[0]


def exit_now(code: int) -> None:
    """Ends the process without waiting for threads, such as a compilation that takes minutes more."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
