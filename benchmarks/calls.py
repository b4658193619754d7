"""Measure a step of a search alone against several in one call of a program, as `--steps-per-call` takes them, in turn.

Both are compiled in one process, on random images that lie on the device. Beside the time stands the processors' time, which
other work on the machine changes less.

Command:  python benchmarks/calls.py                  (--help for the sizes; JDARTS_NATIVE=0 measures XLA's operations)
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from harness import machine, tables
from harness.clock import Seconds, seconds_of
from harness.rounds import Times
from harness.search_program import search_program
from harness.setup import STEP_NAMES, Size

from jdarts.command import run_command
from jdarts.errors import InputError
from jdarts.parallel import jit_step
from jdarts.runs.calls import of_several
from jdarts.search.config import Hypergradient
from jdarts.search.step import Rows
from jdarts.xla.allocator import keep_freed_memory, return_freed_memory


@dataclasses.dataclass(frozen=True)
class CallsBenchmark:
    """What to measure; the default is the size of the search on digits.

    Attributes:
      channels: channels of the first cells.
      cells: number of cells.
      nodes: nodes of a cell.
      batch: images of a batch.
      image_size: height and width of the images.
      steps: steps of a call.
      hypergradients: which steps.
      rounds: how often.
    """

    channels: int = 8
    cells: int = 3
    nodes: int = 3
    batch: int = 64
    image_size: int = 8
    steps: int = 10
    hypergradients: tuple[Hypergradient, ...] = ("exact", "finite_difference", "first_order")
    rounds: int = 5

    def check(self) -> None:
        """Refuses numbers that measure nothing.

        Raises:
          InputError: a single step in a call, or no round.
        """
        if self.steps < 2:
            raise InputError(f"--steps is {self.steps}; give 2 or more")
        if self.rounds < 1:
            raise InputError(f"--rounds is {self.rounds}; give 1 or more")


def measure(config: CallsBenchmark, hypergradient: Hypergradient) -> tuple[list[Seconds], list[Seconds]]:
    """The times of a step alone, and of one of several in a call."""
    draw, count = np.random.default_rng(0), 4 * config.batch
    size = Size(config.channels, config.cells, config.nodes, config.batch, config.image_size)
    program, images = search_program(size, hypergradient, draw, count=count, padding=1)
    order = jnp.asarray(draw.integers(count, size=(config.batch, config.steps)), jnp.int32)
    several, single = Rows(order, order), [Rows(order[:, place], order[:, place]) for place in range(config.steps)]
    state = jax.jit(program.init)(np.uint32(0))
    compiled = [
        jit_step(function, donate=True).lower(state, images, rows).compile()
        for function, rows in ((program.step, single[0]), (of_several(program.step, (None, 1)), several))
    ]
    return_freed_memory()
    found: tuple[list[Seconds], list[Seconds]] = [], []

    def take(step: Callable[..., Any], inputs: Sequence[Rows]) -> Callable[[], None]:
        def work() -> None:
            nonlocal state
            for rows in inputs:
                state, _ = step(state, images, rows)
            jax.block_until_ready(state)

        return work

    works = [take(step, inputs) for step, inputs in zip(compiled, (single, [several]))]
    for work in works:
        work()
    for _ in range(config.rounds):
        for seconds, work in zip(found, works):
            seconds.append(seconds_of(work, config.steps))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures with the given arguments, by default those of the process, and prints the table.

    Raises:
      InputError: an option is wrong.
    """
    config = tyro.cli(CallsBenchmark, args=arguments, description=__doc__)
    config.check()
    keep_freed_memory()
    rows = []
    for name in config.hypergradients:
        print(f"compiling {name}", file=sys.stderr, flush=True)
        alone, together = ([Times(each) for each in zip(*seconds)] for seconds in measure(config, name))
        cells = [
            [tables.time_and_range(one), tables.time_and_range(other), f"{other.median / one.median:.2f}"]
            for one, other in zip(alone, together)
        ]
        rows.append([STEP_NAMES[name], *cells[0], *cells[1]])
    head = [
        "step",
        "alone",
        f"{config.steps} in a call",
        "ratio",
        "alone, processors",
        "in a call, processors",
        "ratio",
    ]
    print(f"\n{machine.describe()}\n\n{tables.table(head, rows)}")


if __name__ == "__main__":
    run_command(main)
