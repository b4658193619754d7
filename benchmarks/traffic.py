"""Bytes that devices exchange in one search step, counted from the traced step: `python benchmarks/traffic.py --help`.

Wall time on the cores of one machine says nothing about devices that are apart, the collectives of a step do. Nothing is
compiled or run.
"""

import dataclasses
import functools
import math
from collections import Counter
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import tyro

import jdarts
from jdarts import optim, parallel
from jdarts.nets.supernet import Supernet, init_alphas
from jdarts.search.config import Hypergradient, hypergradient_named
from jdarts.search.step import supernet_loss


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Counts the collectives of a step; the defaults are the paper's search on CIFAR-10.

    Attributes:
      channels: channels of the first cells.
      cells: number of cells.
      batch_size: images of a batch.
      hypergradient: how the alphas see the weights' step.
      devices: numbers of devices; so many CPU devices are made.
    """

    channels: int = 16
    cells: int = 8
    batch_size: int = 64
    hypergradient: Hypergradient = "exact"
    devices: tuple[int, ...] = (1, 2, 4, 8)


def step_jaxpr(config: Traffic, devices: int, *, synchronised: bool) -> Any:
    """The traced step for so many devices."""
    space = jdarts.darts_space()
    optimizers = {"weight_optimizer": optim.weight_optimizer(0.025), "alpha_optimizer": optim.alpha_optimizer()}
    virtual = optim.weight_optimizer(0.025, clip=None)

    def network(axis_name: str | None) -> Supernet:
        return Supernet(space, config.channels, config.cells, axis_name=axis_name if synchronised else None)

    def start() -> Any:
        alphas = init_alphas(jax.random.key(0), space)
        variables = network(None).init(jax.random.key(1), jnp.zeros((1, 32, 32, 3)), alphas, train=True)
        return jdarts.init_state(jax.random.key(2), variables["params"], alphas, variables["batch_stats"], **optimizers)

    def step(state: Any, train: Any, valid: Any, *, axis_name: str | None) -> Any:
        hypergradient = hypergradient_named(config.hypergradient, virtual)
        loss = supernet_loss(network(axis_name))
        return functools.partial(jdarts.bilevel_step, loss_fn=loss, hypergradient=hypergradient, **optimizers)(
            state, train, valid, axis_name=axis_name
        )

    batch = (
        jax.ShapeDtypeStruct((config.batch_size, 32, 32, 3), jnp.float32),
        jax.ShapeDtypeStruct((config.batch_size,), jnp.int32),
    )
    return jax.make_jaxpr(parallel.shard_step(step, devices))(jax.eval_shape(start), batch, batch)


def reduced(jaxpr: Any) -> Counter[str]:
    """Sums over devices in a traced function: `arrays`, and their `bytes`."""
    found: Counter[str] = Counter()
    for equation in jaxpr.eqns:
        if equation.primitive.name.startswith("psum"):
            shapes = [variable.aval for variable in equation.invars]
            found["arrays"] += len(shapes)
            found["bytes"] += sum(math.prod(shape.shape) * shape.dtype.itemsize for shape in shapes)
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            found += reduced(inner)
    return found


def main() -> None:
    """Prints the table."""
    config = tyro.cli(Traffic, description=__doc__)
    jax.config.update("jax_num_cpu_devices", max(config.devices))
    print("| devices | batch statistics | arrays summed | bytes summed | sent by each device (ring) |")
    print("|---|---|---|---|---|")
    for synchronised in (True, False):
        count = reduced(step_jaxpr(config, max(config.devices), synchronised=synchronised).jaxpr)
        for devices in config.devices:
            sent = 2 * (devices - 1) / devices * count["bytes"]
            name = "synchronised" if synchronised else "per device"
            arrays, size = (count["arrays"], count["bytes"]) if devices > 1 else (0, 0)
            print(f"| {devices} | {name} | {arrays:,} | {size / 1e6:.2f} MB | {sent / 1e6:.2f} MB |")


if __name__ == "__main__":
    main()
