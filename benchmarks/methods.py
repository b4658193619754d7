"""Measure a search step of each method against one of plain DARTS, in turn: time, processor time, compilation, memory.

All are first order, on random images, compiled in one process as a search compiles them.

Command:  python benchmarks/methods.py                (--help for the sizes; --write puts the table into benchmarks/README.md)
"""

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from harness import machine, tables
from harness.clock import Seconds, seconds_of
from harness.compilation import timed_compilation
from harness.rounds import Times
from harness.search_program import search_program
from harness.setup import Size

from jdarts import parallel
from jdarts.command import run_command
from jdarts.errors import InputError
from jdarts.files.atomic import replace_text
from jdarts.methods.presets import DARTS, PRESETS, preset
from jdarts.methods.selection import SHARING
from jdarts.nets.supernet import supernet_compiler_options
from jdarts.report import formatting
from jdarts.search.step import Rows
from jdarts.xla.allocator import keep_freed_memory, return_freed_memory

README = Path(__file__).resolve().parent / "README.md"
SECTION = "methods"

#: Settings that leave a first-order step as it is.
_SAME_STEP = {"hypergradient", "neumann_at", "weight_steps", "stop"}


@dataclasses.dataclass(frozen=True)
class MethodsBenchmark:
    """What to measure.

    Attributes:
      methods: names of the methods, which have alphas; plain DARTS is measured in any case.
      channels: channels of the first cells.
      cells: number of cells.
      nodes: nodes of a cell.
      batch: images of a batch.
      image_size: height and width of the images.
      rounds: how often.
      write: put the table into benchmarks/README.md.
    """

    methods: tuple[str, ...] = tuple(
        name for name in PRESETS if PRESETS[name].keys() - _SAME_STEP and name not in SHARING
    )
    channels: int = 16
    cells: int = 5
    nodes: int = 4
    batch: int = 16
    image_size: int = 32
    rounds: int = 7
    write: bool = False

    @property
    def size(self) -> Size:
        """Of the network and its batch."""
        return Size(self.channels, self.cells, self.nodes, self.batch, self.image_size)


class MethodStep:
    """The step of a method, compiled; each call takes one step and waits for its end.

    Attributes:
      compilation: the program, with the time of the clock.
      compilation_used: the processor time of tracing and compiling it.
    """

    def __init__(self, size: Size, method: str) -> None:
        count, draw = 4 * size.batch, np.random.default_rng(0)
        program, self._images = search_program(size, "first_order", draw, count=count, padding=4, method=method)
        chosen = jnp.asarray(draw.integers(count, size=size.batch), jnp.int32)
        self._rows = Rows(chosen, chosen)
        self._state: Any = jax.jit(program.init)(np.uint32(0))
        step, inputs = parallel.jit_step(program.step, donate=True), (self._state, self._images, self._rows)
        before = time.process_time()
        self.compilation = timed_compilation(step, inputs, supernet_compiler_options())
        self.compilation_used = time.process_time() - before

    def __call__(self) -> None:
        """Takes a step."""
        self._state, _ = self.compilation.program(self._state, self._images, self._rows)
        jax.block_until_ready(self._state)


def main() -> None:
    """Measures, and prints the table."""
    config = tyro.cli(MethodsBenchmark, description=__doc__)
    if config.rounds < 1:
        raise InputError(f"--rounds is {config.rounds}; give 1 or more")
    names = [DARTS, *(name for name in config.methods if name != DARTS)]
    for name in names:
        preset(name)
    keep_freed_memory()
    steps: dict[str, MethodStep] = {}
    for name in names:
        print(f"compiling the step of {name}", file=sys.stderr, flush=True)
        steps[name] = MethodStep(config.size, name)
    return_freed_memory()
    for step in steps.values():
        step()
    found: dict[str, list[Seconds]] = {name: [] for name in names}
    for number in range(config.rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            # The first step pays for memory that the system has taken back while the others had their turn.
            steps[name]()
            found[name].append(seconds_of(steps[name]))
        print(f"round {number + 1} of {config.rounds}", file=sys.stderr, flush=True)
    title = f"**A first-order step of each method at {config.size}.** {machine.describe()}."
    report = f"{title}\n\n{methods_table(steps, found)}"
    print(f"\n{report}\n", flush=True)
    if config.write:
        replace_text(README, tables.place(README.read_text(), {SECTION: report}, README))


def methods_table(steps: Mapping[str, MethodStep], times: Mapping[str, Sequence[Seconds]]) -> str:
    """Every step's times, compilation and temporary memory, each with its multiple of plain DARTS."""
    plain, rows = steps[DARTS].compilation.facts(), []
    for name, step in steps.items():
        facts = step.compilation.facts()
        # Of each round by itself, so that a slow minute of the machine is in both.
        passed, used = np.median(np.divide(times[name], times[DARTS]), axis=0)
        clock, processors = (Times(each) for each in zip(*times[name]))
        made, of_plain = step.compilation_used, steps[DARTS].compilation_used
        row = [
            name,
            tables.time_and_range(clock),
            f"{passed:.2f}",
            formatting.step_time(processors.median),
            f"{used:.2f}",
            formatting.step_time(made),
            f"{made / of_plain:.2f}",
        ]
        if "temporary_bytes" in facts:
            size, of_plain = facts["temporary_bytes"], plain["temporary_bytes"]
            row += [f"{size / 2**20:.0f} MiB", f"{size / of_plain:.2f}"]
        else:
            row += ["", ""]
        rows.append(row)
    measured = ("step", "processor time", "trace and compile, processor time", "XLA's temporary arrays")
    return tables.table(["", *(title for each in measured for title in (each, "× plain"))], rows)


if __name__ == "__main__":
    run_command(main)
