"""The two limits of this machine: arithmetic and memory."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from .counts import step_bytes, step_flops
from .setup import Size, Step


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Limits(NamedTuple):
    """Measured limits: float32 operations and bytes per second."""

    flops: float
    bandwidth: float

    def shortest(self, step: Step, size: Size) -> float:
        """Seconds below which a step cannot be if every layer is a pass over memory of its own."""
        return max(step_flops(step, size) / self.flops, step_bytes(step, size) / self.bandwidth)

    def bound(self, step: Step, size: Size) -> str:
        """Which of the two limits decides: `memory` or `arithmetic`."""
        by_flops = step_flops(step, size) / self.flops
        return "memory" if step_bytes(step, size) / self.bandwidth > by_flops else "arithmetic"


def measure_limits(*, matrix: int = 2048, numbers: int = 2**25, repeats: int = 8) -> Limits:
    """Measures a float32 matrix product, and the sum of two arrays far larger than the caches on all cores.

    Args:
      matrix: rows of the square matrices.
      numbers: length of the arrays.
      repeats: measurements of each; the best counts.
    """
    a, b, product = (np.full((matrix, matrix), value, np.float32) for value in (1.0, 0.5, 0.0))
    flops = 2 * matrix**3 / _best(lambda: np.matmul(a, b, out=product), repeats)

    x, y, total = (np.full(numbers, value, np.float32) for value in (1.0, 2.0, 0.0))
    threads = cores()
    parts = [slice(i * numbers // threads, (i + 1) * numbers // threads) for i in range(threads)]
    with ThreadPoolExecutor(threads) as pool:

        def add() -> None:
            list(pool.map(lambda part: np.add(x[part], y[part], out=total[part]), parts))

        bandwidth = 3 * x.nbytes / _best(add, repeats)
    return Limits(flops, bandwidth)


def _best(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
