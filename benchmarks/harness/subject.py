"""The process of one subject: `python -m harness.subject SETUP`.

It prepares the step, warms up, prints one line of JSON with what it noticed, and then takes two steps for every line on its
standard input and answers with the seconds that the second took: in a search steps follow each other, and the first one
after a rest pays for memory and caches that others have had meanwhile.
"""

import contextlib
import dataclasses
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from harness.setup import Setup

WARM_UP_STEPS = 2


def prepare(setup: Setup) -> tuple[Callable[[], object], dict[str, float]]:
    """The step of a setup, and facts about its preparation; only its own side's libraries are imported."""
    if setup.side == "jdarts":
        from harness import jdarts_steps

        return jdarts_steps.prepare(setup)
    from pytorch.prepare import prepare

    step = prepare(setup.step, layout=setup.layout, threads=setup.threads, **dataclasses.asdict(setup.size))
    return step, {}


def main() -> None:
    """Serves the setup that is the first argument."""
    step, facts = prepare(Setup.from_json(sys.argv[1]))
    forget_peak()
    facts["ready_bytes"] = resident_bytes()
    for _ in range(WARM_UP_STEPS):
        step()
    facts["peak_bytes"] = peak_bytes()
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        step()
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, flush=True)


def resident_bytes() -> float:
    """Memory that the process holds; not a number where the system does not tell."""
    try:
        text = Path("/proc/self/statm").read_text()
    except OSError:
        return float("nan")
    return float(int(text.split()[1]) * resource.getpagesize())


def forget_peak() -> None:
    """Lets the peak begin anew, without what compilation took, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> float:
    """The most memory that the process has held."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)


if __name__ == "__main__":
    main()
