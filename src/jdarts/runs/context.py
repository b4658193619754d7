"""What surrounds a run, whatever its task is."""

import time
from collections.abc import Callable
from typing import NamedTuple, TextIO

from jdarts.runs.interruption import Interruption
from jdarts.runs.programs import CompiledPrograms
from jdarts.runs.store import Store


class Context(NamedTuple):
    """What a run is given beside its task.

    Attributes:
      store: where its checkpoints and logs live.
      interruption: is asked after each step whether to stop.
      programs: compiled functions to share with other runs.
      stream: where progress is shown; standard output where it is None.
      clock: a monotonic clock in seconds.
    """

    store: Store
    interruption: Interruption
    programs: CompiledPrograms
    stream: TextIO | None = None
    clock: Callable[[], float] = time.monotonic
