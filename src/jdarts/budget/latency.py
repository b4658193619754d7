"""Latency of operations and networks on this device: measured once, kept in the user's cache."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jdarts import native
from jdarts.budget.cost import Cost
from jdarts.budget.counting import Place, Target, operation_stage, plain_cells, summed
from jdarts.budget.latency_table import read_table
from jdarts.describe.convolutional import discrete_network
from jdarts.genotype import Genotype
from jdarts.nets.initial import from_one_draw
from jdarts.space import SearchSpace

#: Calls of an operation within one program, so that the start of the program does not count.
_CALLS = 20
#: Measurements, each of at least this many seconds; the shortest time counts, which is that of the quietest moment.
_REPEATS, _SECONDS = 7, 0.01


def latency_cost(space: SearchSpace, network: Target) -> Cost:
    """The latency of networks of a space's cells for one image, in nanoseconds, as a sum over their operations.

    Operations that are not in the table of this device are measured, and kept there. What a network takes besides is measured
    on one of pools, whose own latency is taken off. The sum predicts which cells are faster, not the time itself: XLA fuses
    operations of a network, and reads from caches of the processor.

    Args:
      space: the search space.
      network: everything but the cells.

    Raises:
      InputError: images that the network cannot read, or the user's cache cannot be written.
    """
    native.build_for_images(jnp.float32)
    table = read_table()

    def of_operation(name: str, place: Place) -> int:
        return table.known(entry_name(name, place), lambda: operation_latency(name, place))

    tables = summed(space, network, of_operation)
    plain = plain_cells(space)
    whole = table.known(
        f"{network}: {space.nodes} nodes, output of {len(space.concat)}", lambda: network_latency(plain, network)
    )
    pool = getattr(plain, space.kinds[0])[0][0]
    pools = dataclasses.replace(space, **{kind: ((pool,),) * space.num_edges for kind in space.kinds})
    of_pools = Cost("latency", 0, summed(pools, network, of_operation)).of(plain, pools)
    return Cost("latency", max(whole - of_pools, 0), tables)


def entry_name(name: str, place: Place) -> str:
    """The name of an operation at a place in the table of latencies."""
    return f"{name} {place.channels}x{place.size}/{place.stride}"


def operation_latency(name: str, place: Place) -> int:
    """The latency of one operation on one image, in nanoseconds."""
    stage = operation_stage((name,), place.stride)
    images = jnp.zeros((1, place.size, place.size, place.channels), jnp.float32)
    variables = _variables(stage, images)

    def operation(variables: Any, x: jax.Array) -> jax.Array:
        return stage.apply(variables, x, train=False, rngs={"noise": jax.random.key(0)})[0][0][1]  # pyright: ignore[reportIndexIssue]

    return repeated_latency(operation, variables, images)


def repeated_latency(operation: Callable[[Any, jax.Array], jax.Array], variables: Any, x: jax.Array) -> int:
    """The latency of `operation(variables, x)`, an array, in nanoseconds; what adds up its results does not count."""
    whole, empty = (_repeated(each) for each in (operation, lambda _, x: x))
    took = _seconds(functools.partial(whole, variables, x)) - _seconds(functools.partial(empty, variables, x))
    return max(round(1e9 * took / _CALLS), 0)


def network_latency(genotype: Genotype, network: Target) -> int:
    """The latency of a network of cells for one image, in nanoseconds, measured and not kept."""
    return call_latency(network_call(genotype, network))


def call_latency(call: Callable[[], jax.Array]) -> int:
    """The latency of a function that runs one compiled program, in nanoseconds."""
    return round(1e9 * _seconds(call))


def network_call(genotype: Genotype, network: Target) -> Callable[[], jax.Array]:
    """A function that computes the logits of a network of cells for one image, by one compiled program."""
    model, _ = discrete_network(
        genotype, network.network, channels=network.channels, cells=network.cells, classes=network.classes
    )
    model = model.clone(auxiliary=False)
    images = jnp.zeros((1, network.image_size, network.image_size, network.image_channels), jnp.float32)

    def logits(variables: Any, x: jax.Array) -> jax.Array:
        return model.apply(variables, x, train=False, rngs={"noise": jax.random.key(0)})[0]  # pyright: ignore[reportReturnType]

    return functools.partial(jax.jit(logits), _variables(model, images), images)


def _variables(module: nn.Module, images: jax.Array) -> Any:
    keys = {"params": jax.random.key(0), "noise": jax.random.key(0)}

    def init(key: jax.Array) -> Any:
        return module.init({**keys, "params": key}, images, train=False)

    if not jax.tree.leaves(jax.eval_shape(init, keys["params"])):
        return {}
    return jax.jit(from_one_draw(init))(keys["params"])


def _repeated(operation: Callable[[Any, jax.Array], jax.Array]) -> Callable[..., jax.Array]:
    """A program that calls an operation several times, each on an input that depends on the result before."""

    def repeated(variables: Any, x: jax.Array) -> jax.Array:
        def once(_: Any, carried: jax.Array) -> jax.Array:
            return jnp.mean(operation(variables, x + carried)).astype(x.dtype)

        return lax.fori_loop(0, _CALLS, once, jnp.zeros((), x.dtype))

    return jax.jit(repeated)


def _seconds(call: Callable[[], jax.Array]) -> float:
    """The shortest time of a call."""
    return min(interleaved_seconds([call], _REPEATS)[0])


def interleaved_seconds(calls: Sequence[Callable[[], jax.Array]], rounds: int) -> list[list[float]]:
    """The times of several functions, each `rounds` times in turn, so that a busy moment falls on all of them.

    Each time is the mean of as many calls as take a hundredth of a second.
    """
    times: list[list[float]] = [[] for _ in calls]
    counts = [1 for _ in calls]
    for call in calls:
        call().block_until_ready()
    for _ in range(rounds):
        for number, call in enumerate(calls):
            while True:
                start = time.perf_counter()
                for _ in range(counts[number]):
                    result = call()
                result.block_until_ready()
                took = time.perf_counter() - start
                if took >= _SECONDS:
                    break
                counts[number] *= 2
            times[number].append(took / counts[number])
    return times
