"""The time limit of a command: after so long its run saves its state and ends, so that the same command resumes it."""

import contextlib
import contextvars
import re
import time
from collections.abc import Iterator

from jdarts.errors import InputError, shown

#: The exit code of a command that its time limit has ended: EX_TEMPFAIL of sysexits.h, "try again later".
TIME_IS_UP = 75

_UNITS = {"h": 3600, "m": 60, "s": 1}
_PARTS = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?")


class TimeLimit:
    """The time until a command should end. A run ends at its next checkpoint, and takes at least one step before.

    Args:
      seconds: from now on.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._runs = 0

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._end

    def begin_run(self) -> bool:
        """Whether a run may begin: the first of a command always, a later one within the time."""
        self._runs += 1
        return self._runs == 1 or not self.is_over


_present: contextvars.ContextVar[TimeLimit | None] = contextvars.ContextVar("time limit", default=None)


def time_limit() -> TimeLimit | None:
    """The time limit of the present command; None for none."""
    return _present.get()


@contextlib.contextmanager
def limited(text: str | None) -> Iterator[None]:
    """Sets the time limit of all runs within it, unless one is set already.

    Args:
      text: as for `seconds_of`; None for no limit.

    Raises:
      InputError: as `seconds_of`.
    """
    if text is None or time_limit() is not None:
        yield
        return
    token = _present.set(TimeLimit(seconds_of(text)))
    try:
        yield
    finally:
        _present.reset(token)


def seconds_of(text: str) -> int:
    """The seconds of a text such as `90s`, `10m` or `1h30m`.

    Raises:
      InputError: the text has another form, or is no time.
    """
    found = _PARTS.fullmatch(text.strip().lower())
    parts = found.groups() if found else ()
    seconds = sum(int(part) * unit for part, unit in zip(parts, _UNITS.values()) if part)
    if not seconds:
        raise InputError(
            f"--time-limit is {shown(text, 30)}; give hours, minutes and seconds such as 90s, 10m or 1h30m"
        )
    return seconds
