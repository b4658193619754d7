"""What a run needs besides its task."""

import time
from collections.abc import Callable
from typing import NamedTuple, TextIO

from jdarts.runs.interruption import Interruption
from jdarts.runs.programs import CompiledPrograms
from jdarts.runs.store import Store


class Context(NamedTuple):
    """What a run needs besides its task.

    Attributes:
      store: its checkpoints and logs.
      interruption: says after each step whether to stop.
      programs: compiled functions to share with other runs.
      stream: where progress is shown; None for standard output.
      clock: a monotonic clock in seconds.
    """

    store: Store
    interruption: Interruption
    programs: CompiledPrograms
    stream: TextIO | None = None
    clock: Callable[[], float] = time.monotonic
