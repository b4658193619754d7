"""The kernels that a profile of some steps shows."""

import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.profiler import ProfileData


def longest_kernels(
    take: Callable[[], object],
    wait: Callable[[], object],
    *,
    steps: int = 3,
    steps_per_call: int = 1,
    count: int = 10,
    kinds: int = 100,
) -> dict[str, Any]:
    """Profiles a few steps.

    Args:
      take: starts a call of one or more steps.
      wait: waits until it is done.
      steps: the least number of them.
      steps_per_call: steps of a call.
      count: of how many kernels to tell.
      kinds: of how many kinds of kernels to tell.

    Returns:
      `kernels`, a list of name, milliseconds a step and calls a step, the longest first; `kinds`, the same of kernels whose names
      differ in their numbers alone; `kernel_ms`, the time of all of them a step, and `kernels_run`, their number a step.
    """
    rounds = -(-steps // steps_per_call)
    taken = rounds * steps_per_call
    take()
    wait()
    with tempfile.TemporaryDirectory(prefix="jdarts-profile-") as folder:
        with jax.profiler.trace(folder):
            for _ in range(rounds):
                take()
            wait()
        times, calls = kernel_times(next(Path(folder).rglob("*.xplane.pb")))

    def longest(times: Counter[str], calls: Counter[str], most: int) -> list[dict[str, Any]]:
        return [
            {"name": name, "ms": nanoseconds / 1e6 / taken, "calls": round(calls[name] / taken, 1)}
            for name, nanoseconds in times.most_common(most)
        ]

    return {
        "kernels": longest(times, calls, count),
        "kinds": longest(by_kind(times), by_kind(calls), kinds),
        "kernel_ms": sum(times.values()) / 1e6 / taken,
        "kernels_run": sum(calls.values()) / taken,
    }


def by_kind(numbers: Counter[str]) -> Counter[str]:
    """Sums over names that differ in the number at their end alone: `loop_add_fusion_12`, `add.3`."""
    found: Counter[str] = Counter()
    for name, number in numbers.items():
        found[re.sub(r"([._]\d+)+$", "", name)] += number
    return found


def kernel_times(path: Path) -> tuple[Counter[str], Counter[str]]:
    """Nanoseconds and calls by the name of the kernel, from a profile's file; of a CPU, by the name of the operation."""
    times: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    planes = list(ProfileData.from_file(str(path)).planes)
    of_devices = [plane for plane in planes if plane.name.startswith("/device:")]
    for plane in of_devices or [plane for plane in planes if plane.name == "/host:CPU"]:
        for line in plane.lines:
            # Streams of GPUs, operations of TPUs, threads of CPUs.
            if not (line.name.startswith(("Stream", "XLA Ops")) if of_devices else "XLA" in line.name):
                continue
            for event in line.events:
                if event.name.startswith(("ThunkExecutor", "end: ")):
                    # Of a CPU: what holds the operations, and their ends.
                    continue
                times[event.name] += int(event.duration_ns)
                calls[event.name] += 1
    return times, calls
