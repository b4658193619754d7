"""The speed of a run and its remaining time."""

import math
import statistics
from collections import deque


class Pace:
    """Measures the time of a step from the times at which steps end.

    Dispatch is asynchronous, so the time between two steps says little: only reading numbers from the device
    synchronises the loop with it. Steps are therefore measured in blocks that end there (or after ten seconds, when the
    queue is surely empty). The pace is the median of the latest blocks, so a single slow block does not change it.

    Args:
      total_steps: steps of the whole run.
      steps_per_epoch: steps of an epoch.
      first_step: steps of earlier processes.
    """

    BLOCK_STEPS = 3
    BLOCK_SECONDS = 10.0

    def __init__(self, total_steps: int, steps_per_epoch: int, first_step: int) -> None:
        self._total_steps = total_steps
        self._steps_per_epoch = steps_per_epoch
        self._step = first_step
        self._blocks: deque[float] = deque(maxlen=9)
        self._block_start: tuple[int, float] | None = None
        self._excluded = 0.0
        self._paused = 0.0
        self._epochs = 0

    @property
    def step_seconds(self) -> float | None:
        """Seconds of a step, or None before the first block of steps has been measured."""
        return statistics.median(self._blocks) if self._blocks else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end of the run, pauses included, or None before the first block."""
        if self.step_seconds is None:
            return None
        steps = max(0, self._total_steps - self._step)
        pause = self._paused / self._epochs if self._epochs else 0.0
        return steps * self.step_seconds + self.epochs_left * pause

    @property
    def epochs_left(self) -> int:
        """Epochs that remain; an incomplete epoch counts as one."""
        return math.ceil(max(0, self._total_steps - self._step) / self._steps_per_epoch)

    def step(self, step: int, now: float, synchronised: bool) -> None:
        """Records the end of a step. The first one only starts the clock, since it includes the compilation.

        Args:
          step: its number, counted from 1 over the whole run.
          now: seconds of a monotonic clock.
          synchronised: whether numbers of this step were read from the device.
        """
        self._step = step
        now -= self._excluded
        if self._block_start is None:
            self._block_start = (step, now)
            return
        steps, seconds = step - self._block_start[0], now - self._block_start[1]
        if steps >= self.BLOCK_STEPS and (synchronised or seconds >= self.BLOCK_SECONDS):
            self._blocks.append(seconds / steps)
            self._block_start = (step, now)

    def exclude(self, seconds: float, every_epoch: bool) -> None:
        """Excludes time from the steps; `seconds_left` includes the average of what recurs every epoch."""
        self._excluded += seconds
        if every_epoch:
            self._paused += seconds

    def epoch_end(self) -> None:
        """Records the end of an epoch."""
        self._epochs += 1
