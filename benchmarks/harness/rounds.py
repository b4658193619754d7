"""The processes of the subjects, asked in turn."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jdarts.errors import InputError

from .setup import Setup

_BENCHMARKS = Path(__file__).resolve().parents[1]
#: What `jdarts.keep_freed_memory` tells glibc, for a process that does without jdarts.
KEPT_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62)}


class Times(NamedTuple):
    """Seconds of one subject's step in every round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        """The shortest."""
        return min(self.values)

    @property
    def most(self) -> float:
        """The longest."""
        return max(self.values)


class Subject:
    """A process that takes steps when it is told to. Made ready at once, which may take minutes.

    Attributes:
      setup: what it measures.
      facts: numbers that it noticed on the way: `ready_bytes`, `peak_bytes` and those of its preparation.
    """

    def __init__(self, setup: Setup, *, environment: Mapping[str, str]) -> None:
        self.setup = setup
        self._errors = tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115
        path = os.pathsep.join(filter(None, (str(_BENCHMARKS), os.environ.get("PYTHONPATH"))))
        kept = KEPT_MEMORY if setup.side == "pytorch" else {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.subject", setup.to_json()],
            env={**os.environ, **environment, **kept, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            self.facts: dict[str, float] = json.loads(self._answer())
        except BaseException:
            self.close()
            raise

    def step(self) -> float:
        """Seconds of one step."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._process.wait()
        self._errors.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return line
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        # JAX adds notes of its own after an error.
        complaints = [line for line in lines if "error" in line.lower()] or lines
        ended = f"was killed by signal {-code} (out of memory?)" if code < 0 else f"ended with exit code {code}"
        raise InputError(
            f"the process of {self.setup.name} at {self.setup.size} {ended}"
            + "".join(f": {x}" for x in complaints[-1:])
        )


def measure(
    setups: Sequence[Setup],
    *,
    rounds: int,
    environment: Mapping[str, str],
    tell: Callable[[str], None],
) -> tuple[dict[Setup, Times], dict[Setup, dict[str, float]]]:
    """Starts every setup's process, one after the other, and then lets each take one step per round.

    Args:
      setups: what to measure; no two of them equal.
      rounds: steps of each. The first of a round is another one every time.
      environment: variables that the processes get in addition.
      tell: is told what is going on.

    Returns:
      Times and facts of every setup.

    Raises:
      InputError: a process ended.
    """
    with contextlib.ExitStack() as stack:
        subjects = []
        for setup in setups:
            tell(f"preparing {setup.name}: {setup.size}")
            subject = Subject(setup, environment=environment)
            stack.callback(subject.close)
            subjects.append(subject)
        times: dict[Setup, list[float]] = {setup: [] for setup in setups}
        for number in range(rounds):
            first = number % max(1, len(subjects))
            for subject in subjects[first:] + subjects[:first]:
                times[subject.setup].append(subject.step())
            tell(f"round {number + 1} of {rounds}")
        found = {setup: Times(tuple(values)) for setup, values in times.items()}
        return found, {subject.setup: subject.facts for subject in subjects}
