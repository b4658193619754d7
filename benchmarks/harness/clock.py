"""The time that work takes, of the clock and of the processors."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Seconds(NamedTuple):
    """The time of a step.

    Attributes:
      passed: on the clock.
      used: by all threads of the process together, which other work on the machine changes less.
    """

    passed: float
    used: float


def seconds_of(work: Callable[[], Any], steps: int = 1) -> Seconds:
    """Does work that takes so many steps, and returns the time of one."""
    passed, used = time.perf_counter(), time.process_time()
    work()
    return Seconds((time.perf_counter() - passed) / steps, (time.process_time() - used) / steps)
