"""Measure the steps of a recurrent search, jdarts and PyTorch side by side, in turn and round after round.

Every subject runs in a separate process, as in run.py.

Command:  python benchmarks/recurrent.py                  (or: make bench-text)
"""

import contextlib
import dataclasses
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import tyro
from harness import machine, tables
from harness.limits import cores
from harness.recurrent_steps import RecurrentSize, prepare_jdarts, prepare_torch
from harness.rounds import Times

from jdarts.command import run_command
from jdarts.errors import InputError
from jdarts.files.atomic import replace_text
from jdarts.xla.allocator import keep_freed_memory

SUBJECTS = (
    "pytorch/first_order",
    "jdarts/first_order",
    "pytorch/finite_difference",
    "jdarts/finite_difference",
    "jdarts/exact",
)
WARM_UP_STEPS = 2
README = Path(__file__).resolve().parent / "README.md"
SECTION = "recurrent"


@dataclasses.dataclass(frozen=True)
class RecurrentBenchmark:
    """What to measure.

    Attributes:
      size: of the search.
      rounds: steps of every subject.
      subjects: which sides and steps.
      write: put the table into benchmarks/README.md.
      subject: serve this subject on standard input and output, instead of measuring.
    """

    size: RecurrentSize = dataclasses.field(default_factory=RecurrentSize)
    rounds: int = 7
    subjects: tuple[str, ...] = SUBJECTS
    write: bool = False
    subject: str | None = None

    def check(self) -> None:
        """Refuses what cannot be measured.

        Raises:
          InputError: an unknown subject, a number below 1, PyTorch is missing, or there is no place for the table.
        """
        numbers = {"rounds": self.rounds} | {f"size.{name}": value for name, value in vars(self.size).items()}
        for name, value in numbers.items():
            if value < 1:
                raise InputError(f"--{name} is {value}; give 1 or more")
        for name in (*self.subjects, self.subject or SUBJECTS[0]):
            if name not in SUBJECTS:
                raise InputError(f"unknown subject {name!r}; known are {', '.join(SUBJECTS)}")
        ours = [name for name in self.subjects if name.startswith("jdarts/")]
        if len(ours) < len(self.subjects) and importlib.util.find_spec("torch") is None:
            raise InputError(
                "PyTorch is not installed: pip install -e '.[benchmark]' (make bench-text does it), or --subjects "
                f"{' '.join(ours or SUBJECTS[-1:])}"
            )
        if self.write:
            tables.place(README.read_text(), {SECTION: ""}, README)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, or serves one subject.

    Raises:
      InputError: an option is wrong, PyTorch is missing, or a process failed.
    """
    config = tyro.cli(RecurrentBenchmark, args=arguments, description=__doc__)
    if config.subject is not None:
        serve(config.subject, config.size)
        return
    config.check()
    report = measure(config)
    print(f"\n{report}\n", flush=True)
    if config.write:
        replace_text(README, tables.place(README.read_text(), {SECTION: report}, README))


def measure(config: RecurrentBenchmark) -> str:
    """Lets every subject take a step in turn, round after round; returns the table with its heading."""
    times: dict[str, list[float]] = {name: [] for name in config.subjects}
    compilation: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        processes = {}
        for name in config.subjects:
            tell(f"preparing {name}: {config.size}")
            processes[name] = start(name, config.size)
            stack.callback(processes[name].kill)
            facts = json.loads(answer(name, processes[name]))
            if facts:
                compilation[name] = sum(facts.values())
        for number in range(config.rounds):
            for name, process in processes.items():
                times[name].append(float(answer(name, process, "step\n")))
            tell(f"round {number + 1} of {config.rounds}")
    found = {name: Times(tuple(values)) for name, values in times.items()}
    return (
        f"**Recurrent search at {config.size}.** {machine.describe()}; PyTorch with {cores()} threads.\n\n"
        f"{tables.recurrent_table(found, compilation)}"
    )


def serve(subject: str, size: RecurrentSize) -> None:
    """Prepares a subject, says what tracing and compiling took, and takes a step for every line of standard input."""
    keep_freed_memory()
    side, step = subject.split("/")
    facts: dict[str, float] = {}
    if side == "jdarts":
        take, facts = prepare_jdarts(step, size)  # pyright: ignore[reportArgumentType]
    else:
        take = prepare_torch(step, size, cores())  # pyright: ignore[reportArgumentType]
    for _ in range(WARM_UP_STEPS):
        take()
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        take()
        print(time.perf_counter() - begin, flush=True)


def start(subject: str, size: RecurrentSize) -> "subprocess.Popen[str]":
    """The process of a subject."""
    sizes = [text for name, value in dataclasses.asdict(size).items() for text in (f"--size.{name}", str(value))]
    command = [sys.executable, __file__, "--subject", subject, *sizes]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answer(subject: str, process: "subprocess.Popen[str]", request: str = "") -> str:
    """The next line of a subject.

    Raises:
      InputError: its process has ended.
    """
    requests, answers = process.stdin, process.stdout
    assert requests is not None and answers is not None
    with contextlib.suppress(BrokenPipeError):
        requests.write(request)
        requests.flush()
    line = answers.readline()
    if not line:
        raise InputError(f"the process of {subject} has failed; its message is above")
    return line


def tell(text: str) -> None:
    """Says on standard error what is going on."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_command(main)
