"""Measure one step of several searches at once against the steps of the same searches one after the other, in turn.

Both are the steps that `python -m jdarts.search --seeds` and `--seed` take, compiled in one process, on random images.

Command:  python benchmarks/seeds.py                  (--help for the sizes; --write puts the table into benchmarks/README.md)
"""

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from harness import machine, tables
from harness.rounds import Times
from harness.search_program import search_program
from harness.setup import STEP_NAMES, Size

from jdarts import parallel
from jdarts.command import run_command
from jdarts.errors import InputError
from jdarts.files.atomic import replace_text
from jdarts.nets.supernet import supernet_compiler_options
from jdarts.report import formatting
from jdarts.search.config import Hypergradient
from jdarts.search.step import Rows
from jdarts.xla.allocator import keep_freed_memory, return_freed_memory

README = Path(__file__).resolve().parent / "README.md"


@dataclasses.dataclass(frozen=True)
class SeedsBenchmark:
    """What to measure; the default is the size of the search on digits.

    Attributes:
      channels: channels of the first cells.
      cells: number of cells.
      nodes: nodes of a cell.
      batch: images of a batch.
      image_size: height and width of the images.
      seeds: how many searches.
      at_once: how many of them are vmapped; groups of so many follow each other.
      hypergradients: which steps.
      rounds: how often.
      write: put the table into benchmarks/README.md, between the markers of `section`.
      section: name of the markers.
    """

    channels: int = 8
    cells: int = 3
    nodes: int = 3
    batch: int = 64
    image_size: int = 8
    seeds: int = 4
    at_once: int | None = None
    hypergradients: tuple[Hypergradient, ...] = ("exact", "finite_difference")
    rounds: int = 7
    write: bool = False
    section: str = "seeds"

    @property
    def size(self) -> Size:
        """Of the network and its batch."""
        return Size(self.channels, self.cells, self.nodes, self.batch, self.image_size)


class Steps:
    """The steps of both ways, compiled; each call takes one step of every search and waits for its end."""

    def __init__(self, config: SeedsBenchmark, hypergradient: Hypergradient) -> None:
        count, draw = 4 * config.batch, np.random.default_rng(0)
        program, self._images = search_program(config.size, hypergradient, draw, count=count, padding=1)
        chosen = jnp.asarray(draw.integers(count, size=(config.seeds, config.batch)), jnp.int32)
        self._rows = Rows(chosen, chosen)
        seeds = jnp.arange(config.seeds, dtype=jnp.uint32)
        # As searches begin: one after the other, in one program.
        self._together = jax.jit(lambda seeds: jax.lax.map(program.init, seeds))(seeds)
        self._alone = [jax.tree.map(lambda leaf, i=i: leaf[i], self._together) for i in range(config.seeds)]
        self.compilation: dict[str, float] = {}
        one = jax.tree.map(lambda leaf: leaf[0], self._rows)
        alone = parallel.jit_step(program.step, donate=True)
        together = parallel.vmap_step(program.step, stacked=(False, True), at_once=config.at_once, donate=True)
        self._step = self._compiled("alone", alone, (self._alone[0], self._images, one))
        self._seeds_step = self._compiled("together", together, (self._together, self._images, self._rows))

    def _compiled(self, name: str, step: Any, inputs: Any) -> Any:
        begin = time.perf_counter()
        compiled = step.lower(*inputs).compile(supernet_compiler_options())
        self.compilation[name] = time.perf_counter() - begin
        return compiled

    def alone(self) -> None:
        """One step of each search, one after the other."""
        for place, state in enumerate(self._alone):
            rows = jax.tree.map(lambda leaf, i=place: leaf[i], self._rows)
            self._alone[place], _ = self._step(state, self._images, rows)
        jax.block_until_ready(self._alone)

    def together(self) -> None:
        """The same as one step."""
        self._together, _ = self._seeds_step(self._together, self._images, self._rows)
        jax.block_until_ready(self._together)


def main() -> None:
    """Measures, and prints the table."""
    config = tyro.cli(SeedsBenchmark, description=__doc__)
    if config.seeds < 1 or config.rounds < 1:
        raise InputError(f"--seeds is {config.seeds} and --rounds is {config.rounds}; give 1 or more")
    keep_freed_memory()
    rows = []
    for hypergradient in config.hypergradients:
        tell(f"compiling the steps of {hypergradient}")
        steps = Steps(config, hypergradient)
        return_freed_memory()
        ways = (steps.together, steps.alone)
        for take in 2 * ways:
            take()
        found: list[list[float]] = [[], []]
        for number in range(config.rounds):
            for place in ((0, 1), (1, 0))[number % 2]:
                # The first one pays for memory that the system has taken back while the other way had its turn.
                ways[place]()
                found[place].append(seconds(ways[place]))
            tell(f"round {number + 1} of {config.rounds}")
        times = [Times(tuple(each)) for each in found]
        made = [formatting.step_time(steps.compilation[name]) for name in ("together", "alone")]
        ratio = f"{times[0].median / times[1].median:.2f}"
        rows.append([STEP_NAMES[hypergradient], *map(tables.time_and_range, times), ratio, *made])
    head = ["", "as one step", "one after the other", "ratio", "trace and compile: as one", "one"]
    title = f"A step of {config.seeds} searches at {config.size}."
    report = f"**{title}** {machine.describe()}.\n\n{tables.table(head, rows)}"
    print(f"\n{report}\n", flush=True)
    if config.write:
        replace_text(README, tables.place(README.read_text(), {config.section: report}, README))


def seconds(take: Callable[[], None]) -> float:
    """What a call takes."""
    begin = time.perf_counter()
    take()
    return time.perf_counter() - begin


def tell(text: str) -> None:
    """Says on standard error what is going on."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_command(main)
