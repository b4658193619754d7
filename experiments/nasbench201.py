"""The search network of NAS-Bench-201 (Dong and Yang 2020) written with `jdarts.Choice`, and a small search on digits.

A cell has 4 nodes and an edge from each to every later one; every edge has 5 candidates, and all cells share their alphas. Of the
15,625 cells, networks of 16 channels and 15 cells have 0.073306 M weights (no convolution) to 1.531546 M (3×3 on every edge).

Command:  python experiments/nasbench201.py                      (minutes on two CPU cores, most of them compilation)
          python experiments/nasbench201.py --cell "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import tyro

import jdarts
from jdarts.choice.decided import Call, choices_of, with_decisions
from jdarts.choice.slots import ChoiceAlphas
from jdarts.command import run_command
from jdarts.data import load
from jdarts.errors import InputError, shown
from jdarts.nets.counts import count_weights
from jdarts.runs.bounds import SEED, Bounds
from jdarts.runs.settings import Settings

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
#: Of an edge: its source and its target, in the order of the benchmark's texts.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
#: One image of CIFAR-10, by its shape.
_CALL = Call((jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32),), {})

Activation = Callable[[jax.Array], jax.Array]


class ReluConvNorm(nn.Module):
    """ReLU, convolution, batch norm.

    Attributes:
      channels: of the output.
      size: of the kernel.
      stride: of the convolution.
      activation: the function that stands first.
    """

    channels: int
    size: int
    stride: int = 1
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images `[B, H, W, C]` to `[B, H / stride, W / stride, channels]`."""
        padding = self.size // 2
        x = nn.Conv(self.channels, (self.size,) * 2, self.stride, padding=padding, use_bias=False)(self.activation(x))
        return nn.BatchNorm(use_running_average=not train)(x)


class Reduction(nn.Module):
    """The residual block between the stages, of stride 2."""

    channels: int
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images `[B, H, W, C]` to `[B, H / 2, W / 2, channels]`."""
        smaller = nn.avg_pool(x, (2, 2), (2, 2))
        skip = nn.Conv(self.channels, (1, 1), use_bias=False)(smaller)
        x = ReluConvNorm(self.channels, 3, 2, self.activation)(x, train)
        return skip + ReluConvNorm(self.channels, 3, 1, self.activation)(x, train)


def candidates(channels: int, activation: Activation = nn.relu) -> dict[str, Any]:
    """The candidates of an edge."""
    return {
        "none": None,
        "skip_connect": lambda x: x,
        "nor_conv_1x1": ReluConvNorm(channels, 1, 1, activation),
        "nor_conv_3x3": ReluConvNorm(channels, 3, 1, activation),
        "avg_pool_3x3": lambda x: nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False),
    }


class Cell(nn.Module):
    """A cell: each node is the sum of its edges."""

    channels: int
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images `[B, H, W, channels]` to the same shape."""
        nodes = [x]
        for target in range(1, 4):
            terms = [
                jdarts.Choice(candidates(self.channels, self.activation), shared=name, name=name)(
                    nodes[source], train=train
                )
                for source, name in ((source, edge_name(source, target)) for source in range(target))
            ]
            nodes.append(functools.reduce(jnp.add, terms))
        return nodes[-1]


class SearchNetwork(nn.Module):
    """The network: a stem, three stages of cells with a reduction before the second and the third, and a classifier.

    Attributes:
      channels: of the first stage; each reduction doubles them.
      cells: of each stage.
      classes: number of classes.
      activation: of all blocks; the benchmark's is ReLU.
    """

    channels: int = 16
    cells: int = 5
    classes: int = 10
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        """Images `[B, H, W, C]` to logits `[B, classes]`."""
        x = nn.Conv(self.channels, (3, 3), padding=1, use_bias=False)(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        for stage in range(3):
            channels = self.channels * 2**stage
            if stage:
                x = Reduction(channels, self.activation)(x, train)
            for _ in range(self.cells):
                x = Cell(channels, self.activation)(x, train)
        x = self.activation(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(self.classes)(x.mean(axis=(1, 2)))


def edge_name(source: int, target: int) -> str:
    """The name of an edge's alphas."""
    return f"edge{source}{target}"


def cell_from_text(text: str) -> dict[str, str]:
    """The choices of a cell in the benchmark's text form.

    Args:
      text: such as `|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|`.

    Raises:
      InputError: another form, or an unknown operation.
    """
    found = re.findall(r"([a-z0-9_]+)~(\d)", text)
    if [int(source) for _, source in found] != [source for source, _ in EDGES]:
        raise InputError(f"--cell is {shown(text)}; give a text such as {text_of(dict.fromkeys(_names(), 'none'))}")
    for name, _ in found:
        if name not in OPERATIONS:
            raise InputError(f"--cell has the operation {shown(name)}; give {', '.join(OPERATIONS)}")
    return {edge_name(*edge): name for edge, (name, _) in zip(EDGES, found)}


def _names() -> list[str]:
    return [edge_name(*edge) for edge in EDGES]


def text_of(choices: Mapping[str, Any]) -> str:
    """A cell in the benchmark's text form."""
    nodes = [
        "|".join(f"{choices[edge_name(source, target)]}~{source}" for source in range(target)) for target in (1, 2, 3)
    ]
    return "+".join(f"|{node}|" for node in nodes)


def weights_of_cell(choices: Mapping[str, Any], *, channels: int = 16, cells: int = 5, classes: int = 10) -> int:
    """The number of weights of the network with a cell; nothing is computed."""
    network = SearchNetwork(channels, cells, classes)
    small = with_decisions(network, _choices(channels, cells, classes), choices)
    return count_weights(_CALL.shapes(small)["params"])


@functools.cache
def _choices(channels: int, cells: int, classes: int) -> dict[str, ChoiceAlphas]:
    """The choices of a network, which are found once for all its cells."""
    return choices_of(SearchNetwork(channels, cells, classes), _CALL)


@dataclasses.dataclass(frozen=True)
class Nasbench201Config(Settings):
    """Searches a cell on scikit-learn's digits, or counts the weights of a given one.

    Attributes:
      cell: a cell in the benchmark's text form, whose weights are counted instead of a search.
      channels: of the first stage of the search network.
      cells: of each of its stages.
      steps: steps of the search.
      batch_size: images of a batch.
      seed: of the search.
    """

    cell: str | None = None
    channels: Annotated[int, Bounds(1, 1024)] = 4
    cells: Annotated[int, Bounds(1, 100)] = 1
    steps: Annotated[int, Bounds(1, 1_000_000)] = 200
    batch_size: Annotated[int, Bounds(1, 700)] = 64
    seed: Annotated[int, SEED] = 0


def search(config: Nasbench201Config) -> dict[str, Any]:
    """Searches on digits, prints the table of choices, and returns the choices."""
    digits = load("digits").train
    images = jnp.asarray(digits.images, jnp.float32) / 255
    labels, half = jnp.asarray(digits.labels), len(digits.labels) // 2
    network = SearchNetwork(config.channels, config.cells)
    key = jax.random.key(config.seed)
    variables = jax.jit(network.init)(key, images[:1])
    weights, alphas, model_state = jdarts.split_variables(variables, key=key)
    optimizers: Any = {
        "weight_optimizer": optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.05, momentum=0.9, nesterov=True)),
        "alpha_optimizer": optax.adam(0.02, b1=0.5),
    }
    state = jdarts.init_state(key, weights, alphas, model_state, **optimizers)
    loss_fn = jdarts.network_loss(network, train=True)

    @jax.jit
    def step(state: jdarts.BilevelState) -> Any:
        keys = jax.random.split(jax.random.fold_in(key, state.step))
        rows = [jax.random.choice(each, half, (config.batch_size,), replace=False) for each in keys]
        train, valid = ((images[chosen], labels[chosen]) for chosen in (rows[0], half + rows[1]))
        return jdarts.bilevel_step(state, train, valid, loss_fn=loss_fn, **optimizers)

    for number in range(1, config.steps + 1):
        state, metrics = step(state)
        if number % 50 == 0 or number == config.steps:
            print(
                f"step {number}: loss {metrics['train/loss']:.3f}, of the alphas {metrics['valid/loss']:.3f}",
                flush=True,
            )
    print(jdarts.describe_choices(network, state.alphas, images[:1]))
    return jdarts.decide(state.alphas)


def main() -> None:
    """The command."""
    config = tyro.cli(Nasbench201Config, prog="python experiments/nasbench201.py")
    config.check()
    choices: Mapping[str, Any] = search(config) if config.cell is None else cell_from_text(config.cell)
    print(f"{text_of(choices)}: {weights_of_cell(choices):,} weights at 16 channels and 5 cells a stage, 10 classes")


if __name__ == "__main__":
    run_command(main)
