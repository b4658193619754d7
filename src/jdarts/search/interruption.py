"""SIGINT and SIGTERM as a request to stop after the present step."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupted(Exception):  # noqa: N818  (it is no error)
    """The run was asked to stop, has saved what it had, and can be taken up again."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Interruption:
    """Remembers the first SIGINT or SIGTERM while it is entered; a second one ends the process at once.

    Outside the main thread, where signals cannot be caught, it does nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
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
        if self.signal is not None:
            leave_now(128 + number)
        self.signal = number

    def check(self) -> None:
        """Raises `Interrupted` if a signal has come."""
        if self.signal is not None:
            raise Interrupted(self.signal)

    def wait_for(self, work: Callable[[], Any]) -> Any:
        """Runs long work that cannot be stopped, such as a compilation, in a thread, and attends to signals meanwhile.

        Raises:
          Interrupted: a signal came; the work goes on by itself and is to be left behind with `leave_now`.
        """
        outcome: dict[str, Any] = {}

        def run() -> None:
            try:
                outcome["value"] = work()
            except BaseException as error:  # noqa: BLE001  (raised again by the waiting thread)
                outcome["error"] = error

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
            if self.signal is not None and thread.is_alive():
                raise Interrupted(self.signal)
        if "error" in outcome:
            raise outcome["error"]
        return outcome["value"]


def leave_now(code: int) -> None:
    """Ends the process without waiting for threads: a compilation under way would hold it for minutes."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)
