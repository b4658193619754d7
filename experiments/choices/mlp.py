"""A multilayer perceptron for regression: widths, activation, and whether a layer is skipped.

Ten measurements of 442 patients; the target is the progression of diabetes a year later, standardised.

Time: half a minute on a CPU, most of it compilation.     Command:  python experiments/choices/mlp.py
"""

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from example import Config, Found, run_example, solve, split_data
from sklearn.datasets import load_diabetes

import jdarts

CONFIG = Config(run_dir=Path("runs/choices/mlp"), epochs=80)


class Perceptron(nn.Module):
    """Two hidden layers, of which the second may be skipped."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Measurements `[B, 10]` to predictions `[B]`."""
        x = nn.relu(jdarts.WidthChoice(nn.Dense, (4, 8, 16), name="width")(x))
        x = nn.Dense(8)(x)
        x = jdarts.Choice({"tanh": jnp.tanh, "relu": nn.relu, "gelu": nn.gelu}, name="activation")(x)
        x = jdarts.Choice({"dense": nn.Sequential([nn.Dense(8), nn.relu]), "skip": lambda x: x}, name="layer")(x)
        return nn.Dense(1)(x)[:, 0]


def solved(config: Config) -> Found:
    """Solves the example."""
    found: Any = load_diabetes()
    inputs, targets = found.data, found.target
    targets = (targets - targets.mean()) / targets.std()
    data = split_data((20 * inputs).astype("float32"), targets.astype("float32"))
    metrics = {"absolute_error": lambda outputs, targets: jnp.mean(jnp.abs(outputs - targets))}
    return solve(Perceptron(), data, "squared_error", config, metrics=metrics)


if __name__ == "__main__":
    run_example(solved, CONFIG, __doc__)
