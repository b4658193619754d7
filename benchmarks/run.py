"""Measure the steps of a search, jdarts and PyTorch side by side.

Every subject runs in a separate process; they take one step each in turn, and medians over the rounds are compared.

Command:  python benchmarks/run.py                        (or: make bench)
"""

import importlib.util
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tyro
from harness import machine, tables
from harness.benchmark import Benchmark, tell
from harness.config import BenchmarkConfig
from harness.limits import measure_limits

from jdarts.command import run_command
from jdarts.errors import InputError
from jdarts.files.atomic import replace_text

README = Path(__file__).resolve().parent / "README.md"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures with the given arguments, by default those of the process.

    Raises:
      InputError: an option is wrong, PyTorch is missing, or a process failed.
    """
    config = tyro.cli(BenchmarkConfig, args=arguments, description=__doc__).sized()
    config.check()
    if config.needs_torch and importlib.util.find_spec("torch") is None:
        raise InputError(
            "PyTorch is not installed: pip install -e '.[benchmark]' (make bench does it), or --only jdarts"
        )
    if config.write:
        tables.place(README.read_text(), dict.fromkeys(config.sections, ""), README)
    tell("measuring the limits of this machine")
    limits = measure_limits(numbers=2**22 if config.quick else 2**25)
    with tempfile.TemporaryDirectory(prefix="jdarts-bench-") as cache:
        Benchmark(config, limits, Path(cache), save).run()


def save(benchmark: Benchmark) -> None:
    """Writes the tables so far and their numbers where the configuration wants them: a run may be stopped at any time."""
    config = benchmark.config
    if config.json is not None:
        found = {
            "machine": machine.describe(),
            "limits": benchmark.limits._asdict(),
            "measurements": benchmark.records,
        }
        replace_text(config.json, json.dumps(found, indent=1) + "\n")
    if config.write:
        replace_text(README, tables.place(README.read_text(), benchmark.sections, README))


if __name__ == "__main__":
    run_command(main)
