"""What the examples of networks with choices share: a search, the decided network, and its training."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import jdarts
from jdarts.command import run_command
from jdarts.nets.counts import count_weights
from jdarts.runs.bounds import SEED, Bounds
from jdarts.runs.settings import Settings


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Settings of an example.

    Attributes:
      steps: steps of the search, and of the decided network's training.
      batch_size: examples of a batch.
      seed: of both.
    """

    steps: Annotated[int, Bounds(1, 1_000_000)] = 400
    batch_size: Annotated[int, Bounds(1, 128)] = 32
    seed: Annotated[int, SEED] = 0


class Part(NamedTuple):
    """Examples.

    Attributes:
      inputs: an array, or a tuple of arrays for several arguments of the network.
      targets: an array.
    """

    inputs: Any
    targets: jax.Array

    def rows(self, chosen: Any) -> "Part":
        """Some of them."""
        return jax.tree.map(lambda leaf: leaf[chosen], self)


class Data(NamedTuple):
    """Examples for the weights, for the alphas, and for the test."""

    train: Part
    valid: Part
    test: Part


class Found(NamedTuple):
    """What an example finds.

    Attributes:
      choices: of the search.
      sizes: weights of the whole network and of the decided one.
      loss: of the decided network on the test examples, after its training.
      metrics: of the decided network on the test examples.
    """

    choices: dict[str, Any]
    sizes: tuple[int, int]
    loss: float
    metrics: dict[str, float]


def split_data(inputs: Any, targets: np.ndarray, seed: int = 0) -> Data:
    """Shuffled examples in three parts: two fifths, two fifths and a fifth."""
    count = len(targets)
    order = np.random.default_rng(seed).permutation(count)
    ends = 2 * count // 5, 4 * count // 5
    whole = Part(jax.tree.map(jnp.asarray, inputs), jnp.asarray(targets))
    return Data(*(whole.rows(rows) for rows in np.split(order, ends)))


def solve(network: Any, data: Data, loss: str, config: Config) -> Found:
    """Searches, decides, and trains the decided network from new weights.

    Args:
      network: a Linen network with choices.
      data: the examples.
      loss: as for `jdarts.network_loss`.
      config: the settings.
    """
    key = jax.random.key(config.seed)
    inputs = data.train.inputs if isinstance(data.train.inputs, tuple) else (data.train.inputs,)
    weights, alphas, model_state = jdarts.split_variables(jax.jit(network.init)(key, *inputs), key=key)
    state = _steps(network, weights, alphas, model_state, data, loss, config, jdarts.exact())
    print(jdarts.describe_choices(network, state.alphas, *inputs))
    choices = jdarts.decide(state.alphas)
    whole = {"params": state.weights, **state.model_state}
    small, kept = jdarts.decided(network, choices, whole, *inputs)
    fresh = dict(jax.jit(small.init)(key, *inputs))
    params = fresh.pop("params")
    trained = _steps(small, params, {}, fresh, data, loss, config, _none)
    value, (_, metrics) = jdarts.network_loss(small, loss)(trained.weights, {}, trained.model_state, data.test, key)
    return Found(
        choices,
        (count_weights(weights), count_weights(kept["params"])),
        float(value),
        {name: float(each) for name, each in metrics.items()},
    )


def _none(problem: jdarts.Problem) -> jdarts.Estimate:
    """The estimator of a network without alphas."""
    return jdarts.Estimate({}, jnp.zeros(()), {}, {})


def _steps(
    network: Any,
    weights: Any,
    alphas: Any,
    model_state: Any,
    data: Data,
    loss: str,
    config: Config,
    hypergradient: jdarts.HypergradientFn,
) -> jdarts.BilevelState:
    optimizers: Any = {"weight_optimizer": optax.adamw(3e-3), "alpha_optimizer": optax.adam(1e-2, b1=0.5)}
    key = jax.random.key(config.seed)
    state = jdarts.init_state(key, weights, alphas, model_state, **optimizers)
    step = functools.partial(
        jdarts.bilevel_step, loss_fn=jdarts.network_loss(network, loss), hypergradient=hypergradient, **optimizers
    )

    @jax.jit
    def on_random_batches(state: jdarts.BilevelState) -> jdarts.BilevelState:
        keys = jax.random.split(jax.random.fold_in(key, state.step))
        batches = [
            tuple(part.rows(jax.random.choice(each, len(part.targets), (config.batch_size,), replace=False)))
            for each, part in zip(keys, (data.train, data.valid))
        ]
        return step(state, *batches)[0]

    for _ in range(config.steps):
        state = on_random_batches(state)
    return state


def run_example(solved: Callable[[Config], Found], description: str | None) -> None:
    """An example as a command."""

    def main() -> None:
        config = tyro.cli(Config, description=description)
        config.check()
        found = solved(config)
        before, after = found.sizes
        numbers = "".join(f", {name} {value:.3f}" for name, value in found.metrics.items())
        print(f"{before:,} weights became {after:,}; trained from new weights: test loss {found.loss:.3f}{numbers}")

    run_command(main)
