"""What the examples of networks with choices share: a search, the decided network, and its training, as runs that resume."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro

import jdarts
from jdarts.command import run_command
from jdarts.nets.counts import count_weights
from jdarts.runs.bounds import EPOCHS, SEED, Bounds
from jdarts.runs.settings import Settings
from jdarts.search import SearchConfig, search
from jdarts.train import TrainConfig, train


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Settings of an example.

    Attributes:
      run_dir: folder of the search, and of the decided network's training.
      epochs: of both.
      batch_size: examples of a batch.
      seed: of both.
    """

    run_dir: Path
    epochs: Annotated[int, EPOCHS]
    batch_size: Annotated[int, Bounds(1, 128)] = 32
    seed: Annotated[int, SEED] = 0


class Data(NamedTuple):
    """Pairs of inputs and targets: for the weights, for the alphas, and for the test."""

    train: Any
    valid: Any
    test: Any


class Found(NamedTuple):
    """What an example finds.

    Attributes:
      choices: of the search.
      sizes: weights of the whole network and of the decided one.
      metrics: loss and metrics of the decided network on the test examples, after its training.
    """

    choices: dict[str, Any]
    sizes: tuple[int, int]
    metrics: dict[str, float]


def split_data(inputs: Any, targets: np.ndarray, seed: int = 0) -> Data:
    """Shuffled examples in three parts: two fifths, two fifths and a fifth."""
    count = len(targets)
    order = np.random.default_rng(seed).permutation(count)
    parts = np.split(order, (2 * count // 5, 4 * count // 5))
    return Data(*(jax.tree.map(lambda leaf, rows=rows: leaf[rows], (inputs, targets)) for rows in parts))


#: For the weights of small networks.
ADAMW: Any = {"optimizer": "adamw", "learning_rate": 3e-3}


def solve(network: Any, data: Data, loss: str, config: Config, *, optimizer: Any = ADAMW, **task: Any) -> Found:
    """Searches, decides, and trains the decided network from new weights.

    Args:
      network: a Linen network with choices.
      data: the examples.
      loss: as for `jdarts.NetworkTask`.
      config: the settings.
      optimizer: settings of the weights' optimiser.
      **task: further attributes of the task, such as metrics.
    """
    parts: Any = {name: jdarts.ArrayBatches(part, config.batch_size) for name, part in data._asdict().items()}
    learned = jdarts.NetworkTask(**parts, loss=loss, name=config.run_dir.name, **task)
    settings = {"epochs": config.epochs, "seed": config.seed, **optimizer}
    alphas = {"alpha_learning_rate": 1e-2, "alpha_weight_decay": 0.0}
    searched = search(
        SearchConfig(run_dir=config.run_dir / "search", **settings, **alphas), network=network, task=learned
    )
    found = jdarts.load_search(searched.folder)
    inputs = data.test[0] if isinstance(data.test[0], tuple) else (data.test[0],)
    small, kept = jdarts.decided(network, found.choices, found.variables, *inputs)
    trained = train(TrainConfig(run_dir=config.run_dir / "train", **settings), network=small, task=learned)
    sizes = count_weights(found.variables["params"]), count_weights(kept["params"])
    return Found(found.choices, sizes, dict(trained.test_metrics))


def run_example(solved: Callable[[Config], Found], default: Config, description: str | None) -> None:
    """An example as a command."""

    def main() -> None:
        config = tyro.cli(Config, default=default, description=description)
        config.check()
        found = solved(config)
        before, after = found.sizes
        numbers = ", ".join(f"{name} {value:.3f}" for name, value in found.metrics.items())
        print(f"{before:,} weights became {after:,}; trained from new weights: test {numbers}")

    run_command(main)
