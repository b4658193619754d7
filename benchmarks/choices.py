"""Measure the search network of DARTS with a `jdarts.Choice` on every edge against the supernet, which stacks the edges.

Both have the same weights, alphas and operations, and take the exact step. Each is compiled once and takes its steps in a
separate process. Numbers are seconds of the processor (`user`), so that other work on the machine counts little.

Command:  python benchmarks/choices.py                (--help for the sizes; --write puts the table into benchmarks/README.md)
"""

import dataclasses
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import tyro
from harness import machine, tables
from harness.choice_cells import EdgeByEdge
from harness.setup import Size

import jdarts
from jdarts import optimizers
from jdarts.command import run_command
from jdarts.errors import InputError
from jdarts.files.atomic import replace_text
from jdarts.nets.counts import count_weights
from jdarts.nets.initial import from_one_draw
from jdarts.nets.supernet import Supernet, supernet_compiler_options
from jdarts.relaxation import init_alphas
from jdarts.report import formatting
from jdarts.runs.bounds import Bounds, option
from jdarts.runs.settings import Settings
from jdarts.search.step import supernet_loss
from jdarts.space import uniform_space

README = Path(__file__).resolve().parent / "README.md"
#: Each network with its title and what its process has in the environment.
WAYS = {
    "choices": ("`Choice` edge by edge, layers of Flax", {}),
    "stacked": ("the supernet, operations of XLA", {"JDARTS_NATIVE": "0"}),
    "native": ("the supernet, native functions", {}),
}


@dataclasses.dataclass(frozen=True)
class ChoicesBenchmark(Settings):
    """What to measure.

    Attributes:
      channels: channels of the first cells.
      cells: number of cells.
      nodes: nodes of a cell.
      batch: images of a batch.
      image_size: height and width of the images.
      steps: how many, after a first one.
      only: one network, whose numbers are printed as JSON.
      write: put the table into benchmarks/README.md.
    """

    channels: Annotated[int, Bounds(2, 512)] = 8
    cells: Annotated[int, Bounds(3, 64)] = 3
    nodes: Annotated[int, Bounds(1, 8)] = 2
    batch: Annotated[int, Bounds(2, 1024)] = 8
    image_size: Annotated[int, Bounds(8, 256)] = 16
    steps: Annotated[int, Bounds(1, 1000)] = 20
    only: Literal["choices", "stacked", "native"] | None = None
    write: bool = False

    @property
    def size(self) -> Size:
        """Of the network and its batch."""
        return Size(self.channels, self.cells, self.nodes, self.batch, self.image_size)


def measured(size: Size, way: str, steps: int) -> dict[str, float]:
    """Weights of a network, and processor seconds of its program and of a step."""
    space, key = uniform_space(nodes=size.nodes), jax.random.key(0)
    shape = (size.batch, size.image_size, size.image_size, 3)
    parts: Any = {
        "weight_optimizer": optimizers.weight_optimizer(0.025),
        "alpha_optimizer": optimizers.alpha_optimizer(),
    }
    if way == "choices":
        network = EdgeByEdge(space, size.channels, size.cells, size.classes)
        loss_fn, options = jdarts.network_loss(network), None
        made: Any = from_one_draw(lambda key: network.init(key, jnp.zeros((1, *shape[1:]))))
        start = lambda key: jdarts.init_state(key, *jdarts.split_variables(made(key), key=key), **parts)  # noqa: E731
    else:
        supernet = Supernet(space, size.channels, size.cells, size.classes)
        loss_fn, options = supernet_loss(supernet), supernet_compiler_options()
        alphas = init_alphas(key, space)
        drawn: Any = from_one_draw(
            lambda key: supernet.init({"params": key, "noise": key}, jnp.zeros((1, *shape[1:])), alphas, train=True)
        )

        def start(key: jax.Array) -> jdarts.BilevelState:
            variables = drawn(key)
            return jdarts.init_state(key, variables["params"], alphas, variables["batch_stats"], **parts)

    state = jax.jit(start)(key)
    batches = [
        (jax.random.normal(each, shape), jax.random.randint(each, (size.batch,), 0, size.classes))
        for each in jax.random.split(key)
    ]
    step = jax.jit(lambda state, *batches: jdarts.bilevel_step(state, *batches, loss_fn=loss_fn, **parts)[0])
    begin = user()
    lowered = step.lower(state, *batches)
    traced = user()
    compiled = lowered.compile(options)
    ready = user()
    state = jax.block_until_ready(compiled(state, *batches))
    first = user()
    for _ in range(steps):
        state = compiled(state, *batches)
    jax.block_until_ready(state)
    of_steps = user() - first
    found = {"trace": traced - begin, "compile": ready - traced, "step": of_steps / steps}
    return {**found, "weights": count_weights(state.weights), "lines": lowered.as_text().count("\n")}


def user() -> float:
    """Processor seconds of this process so far, without those of the system."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def main() -> None:
    """Measures, and prints the table."""
    config = tyro.cli(ChoicesBenchmark, description=__doc__)
    config.check()
    if config.only is not None:
        print(json.dumps(measured(config.size, config.only, config.steps)))
        return
    found = {way: _in_process(config, way) for way in WAYS}
    if found["choices"]["weights"] != found["stacked"]["weights"]:
        raise InputError(f"the networks differ: {found}; mend benchmarks/harness/choice_cells.py")
    rows = [
        [
            title,
            *(formatting.step_time(found[way][name]) for name in ("trace", "compile", "step")),
            f"{found[way]['lines']:,}",
        ]
        for way, (title, _) in WAYS.items()
    ]
    head = ["exact second-order step", "trace, user", "compile, user", "step, user", "lines of StableHLO"]
    title = f"{found['choices']['weights']:,} weights at {config.size}, {config.steps} steps."
    report = f"**{title}** {machine.describe()}.\n\n{tables.table(head, rows)}"
    print(f"\n{report}\n", flush=True)
    if config.write:
        replace_text(README, tables.place(README.read_text(), {"choices": report}, README))


def _in_process(config: ChoicesBenchmark, way: str) -> dict[str, float]:
    print(f"measuring {way}", file=sys.stderr, flush=True)
    sizes = dataclasses.asdict(config)
    names = ("channels", "cells", "nodes", "batch", "image_size", "steps")
    words = [word for name in names for word in (option(name), str(sizes[name]))]
    made = subprocess.run(
        [sys.executable, __file__, "--only", way, *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **WAYS[way][1]},
    )
    return json.loads(made.stdout.splitlines()[-1])


if __name__ == "__main__":
    run_command(main)
