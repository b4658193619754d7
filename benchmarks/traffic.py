"""Bytes that devices exchange in one search step, counted from the traced step: `python benchmarks/traffic.py --help`.

Wall time on the cores of one machine says nothing about devices that are apart, the collectives of a step do. Nothing is
compiled or run, unless `--rounds` asks for the times.
"""

import dataclasses
import functools
import math
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from harness import machine, tables
from harness.rounds import Times

import jdarts
from jdarts import optim, parallel
from jdarts.nets.initial import from_one_draw
from jdarts.nets.supernet import Supernet
from jdarts.relaxation import init_alphas
from jdarts.search.building import hypergradient_by_name
from jdarts.search.config import Hypergradient
from jdarts.search.step import supernet_loss
from jdarts.xla.jaxprs import equations


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Counts the collectives of a step; the defaults are the paper's search on CIFAR-10.

    Attributes:
      channels: channels of the first cells.
      cells: number of cells.
      nodes: nodes of a cell.
      image_size: height and width of the images.
      batch_size: images of a batch.
      hypergradient: how the alphas see the weights' step.
      devices: numbers of devices; so many CPU devices are made.
      rounds: steps to take of each, one after the other and round after round, of which the median is shown; 0 for no times.
    """

    channels: int = 16
    cells: int = 8
    nodes: int = 4
    image_size: int = 32
    batch_size: int = 64
    hypergradient: Hypergradient = "exact"
    devices: tuple[int, ...] = (1, 2, 4, 8)
    rounds: int = 0


class Step:
    """The step for so many devices, and what it takes: shapes, until `begin` draws a state and batches.

    Attributes:
      sharded: the step, to be traced or compiled.
      inputs: state and both batches.
    """

    def __init__(self, config: Traffic, devices: int, *, synchronised: bool) -> None:
        start, step = _search(config, synchronised=synchronised)
        self._start = start
        self.sharded = parallel.shard_step(step, devices, donate=True)
        shape = (config.batch_size, config.image_size, config.image_size, 3)
        batch = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape[:1], jnp.int32)
        self.inputs = jax.eval_shape(start), batch, batch

    def begin(self) -> None:
        """Compiles the step, and takes two."""
        draw = np.random.default_rng(0)
        batches = [
            (draw.normal(size=x.shape).astype(np.float32), np.zeros(y.shape, np.int32)) for x, y in self.inputs[1:]
        ]
        self.inputs = (jax.jit(self._start)(), *jax.tree.map(jnp.asarray, batches))
        self.seconds()
        self.seconds()

    def seconds(self) -> float:
        """The time of one step."""
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(self.sharded(*self.inputs))
        self.inputs = (state, *self.inputs[1:])
        return time.perf_counter() - begin


def _search(config: Traffic, *, synchronised: bool) -> tuple[Any, Any]:
    """The function that makes the state, and the step."""
    space = jdarts.uniform_space(nodes=config.nodes)
    optimizers = {"weight_optimizer": optim.weight_optimizer(0.025), "alpha_optimizer": optim.alpha_optimizer()}
    virtual = optim.weight_optimizer(0.025, clip=None)

    def network(axis_name: str | None) -> Supernet:
        return Supernet(space, config.channels, config.cells, axis_name=axis_name if synchronised else None)

    def start() -> Any:
        alphas = init_alphas(jax.random.key(0), space)
        images = jnp.zeros((1, config.image_size, config.image_size, 3))
        draw = from_one_draw(lambda key: network(None).init(key, images, alphas, train=True))
        variables = draw(jax.random.key(1))
        return jdarts.init_state(jax.random.key(2), variables["params"], alphas, variables["batch_stats"], **optimizers)

    def step(state: Any, train: Any, valid: Any, *, axis_name: str | None) -> Any:
        hypergradient = hypergradient_by_name(config.hypergradient, virtual)
        loss = supernet_loss(network(axis_name))
        return functools.partial(jdarts.bilevel_step, loss_fn=loss, hypergradient=hypergradient, **optimizers)(
            state, train, valid, axis_name=axis_name
        )

    return start, step


def reduced(jaxpr: Any) -> Counter[str]:
    """Sums over devices in a traced function: `arrays`, and their `bytes`."""
    found: Counter[str] = Counter()
    for equation in equations(jaxpr):
        if equation.primitive.name.startswith("psum"):
            shapes: list[Any] = [variable.aval for variable in equation.invars]
            found["arrays"] += len(shapes)
            found["bytes"] += sum(math.prod(shape.shape) * shape.dtype.itemsize for shape in shapes)
    return found


def main() -> None:
    """Prints the table."""
    config = tyro.cli(Traffic, description=__doc__)
    jax.config.update("jax_num_cpu_devices", max(config.devices))
    cases = [
        (synchronised, count) for synchronised in (True, False) for count in config.devices if synchronised or count > 1
    ]
    steps = {case: Step(config, case[1], synchronised=case[0]) for case in cases}
    # The arrays are the same for any number of devices.
    counts = {synchronised: collectives(steps[synchronised, devices]) for synchronised, devices in dict(cases).items()}
    times: dict[tuple[bool, int], list[float]] = {case: [] for case in cases}
    for case in cases if config.rounds else ():
        print(f"compiling the step of {case[1]} devices", file=sys.stderr, flush=True)
        steps[case].begin()
    for _ in range(config.rounds):
        for case in cases:
            times[case].append(steps[case].seconds())
    head = ["devices", "batch statistics", "arrays summed", "bytes summed", "sent by each device (ring)"]
    print(machine.describe() + "\n")
    print(tables.table(head + ["step"] * bool(config.rounds), [row(*case, counts, times[case]) for case in cases]))


def collectives(step: Step) -> Counter[str]:
    """What a step sums over devices, as `reduced` counts it."""
    return reduced(jax.make_jaxpr(step.sharded)(*step.inputs).jaxpr)


def row(synchronised: bool, devices: int, counts: Mapping[bool, Counter[str]], times: Sequence[float]) -> list[str]:
    """The table's row of a number of devices."""
    count = counts[synchronised]
    sent = 2 * (devices - 1) / devices * count["bytes"]
    arrays, size = (count["arrays"], count["bytes"]) if devices > 1 else (0, 0)
    name = "either" if devices == 1 else "synchronised" if synchronised else "per device"
    numbers = [f"{arrays:,}", f"{size / 1e6:.2f} MB", f"{sent / 1e6:.2f} MB"]
    return [str(devices), name, *numbers, *([tables.time_and_range(Times(tuple(times)))] if times else [])]


if __name__ == "__main__":
    main()
