"""Measure the steps of a recurrent search, jdarts and PyTorch side by side, in turn and round after round.

Every subject has a process of its own, as in run.py.

Command:  python benchmarks/recurrent.py
"""

import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import tyro
from harness.recurrent_steps import RecurrentSize, prepare_jdarts, prepare_torch

from jdarts.command import run_command
from jdarts.errors import InputError

SUBJECTS = (
    "pytorch/first_order",
    "jdarts/first_order",
    "pytorch/finite_difference",
    "jdarts/finite_difference",
    "jdarts/exact",
)
WARM_UP_STEPS = 2


@dataclasses.dataclass(frozen=True)
class RecurrentBenchmark:
    """What to measure.

    Attributes:
      size: of the search.
      rounds: steps of every subject.
      subjects: which sides and steps.
      subject: serve this subject on standard input and output, instead of measuring.
    """

    size: RecurrentSize = dataclasses.field(default_factory=RecurrentSize)
    rounds: int = 7
    subjects: tuple[str, ...] = SUBJECTS
    subject: str | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, or serves one subject.

    Raises:
      InputError: an unknown subject, or a process that failed.
    """
    config = tyro.cli(RecurrentBenchmark, args=arguments, description=__doc__)
    for name in (*config.subjects, config.subject or SUBJECTS[0]):
        if name not in SUBJECTS:
            raise InputError(f"unknown subject {name!r}; known are {', '.join(SUBJECTS)}")
    if config.subject is not None:
        serve(config.subject, config.size)
        return
    processes = {name: start(name, config.size) for name in config.subjects}
    try:
        times: dict[str, list[float]] = {name: [] for name in processes}
        for _ in range(config.rounds):
            for name, process in processes.items():
                times[name].append(float(answer(name, process, "step\n")))
    finally:
        for process in processes.values():
            process.kill()
    for name, values in times.items():
        side, step = name.split("/")
        baseline = times.get("pytorch/" + step.replace("exact", "finite_difference"))
        ratio = ""
        if side == "jdarts" and baseline:
            ratio = f", {statistics.median(baseline) / statistics.median(values):.2f} × PyTorch's speed"
        print(f"{name}: {statistics.median(values):.3f} s ({min(values):.3f} to {max(values):.3f}){ratio}")


def serve(subject: str, size: RecurrentSize) -> None:
    """Prepares a subject, says what compiling took, and takes a step for every line of standard input."""
    side, step = subject.split("/")
    facts: dict[str, float] = {}
    if side == "jdarts":
        take, facts = prepare_jdarts(step, size)  # pyright: ignore[reportArgumentType]
    else:
        take = prepare_torch(step, size, len(os.sched_getaffinity(0)))  # pyright: ignore[reportArgumentType]
    for _ in range(WARM_UP_STEPS):
        take()
    print(", ".join(f"{name} {seconds:.1f}" for name, seconds in facts.items()), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        take()
        print(time.perf_counter() - begin, flush=True)


def start(subject: str, size: RecurrentSize) -> "subprocess.Popen[str]":
    """The process of a subject, ready to take steps."""
    sizes = [text for name, value in dataclasses.asdict(size).items() for text in (f"--size.{name}", str(value))]
    process = subprocess.Popen(
        [sys.executable, __file__, "--subject", subject, *sizes],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    print(f"{subject}: ready; {answer(subject, process).strip()}", file=sys.stderr, flush=True)
    return process


def answer(subject: str, process: "subprocess.Popen[str]", request: str = "") -> str:
    """The next line of a subject.

    Raises:
      InputError: its process has ended.
    """
    requests, answers = process.stdin, process.stdout
    assert requests is not None and answers is not None
    requests.write(request)
    requests.flush()
    line = answers.readline()
    if not line:
        raise InputError(f"the process of {subject} has failed; its message is above")
    return line


if __name__ == "__main__":
    run_command(main)
