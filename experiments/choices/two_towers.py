"""A network with two towers on a table: the depth of each tower, and how they are joined.

30 measurements of 569 tumours in scikit-learn's breast cancer set: means and worst values in one tower, errors in the other.

Time: half a minute on a CPU, most of it compilation.     Command:  python experiments/choices/two_towers.py
"""

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
from example import Config, Found, run_example, solve, split_data
from sklearn.datasets import load_breast_cancer

import jdarts

CONFIG = Config(run_dir=Path("runs/choices/two_towers"), epochs=60)


class Towers(nn.Module):
    """Two towers, and a choice of two of three ways to join them."""

    @nn.compact
    def __call__(self, left: jax.Array, right: jax.Array) -> jax.Array:
        """Columns `[B, 20]` and `[B, 10]` to logits `[B]`, positive for a benign tumour."""
        left, right = (self.tower(x, name) for x, name in ((left, "left"), (right, "right")))
        joined = {"left": left, "right": right, "product": left * right}
        return nn.Dense(1)(jdarts.InputChoice(k=2, name="join")(joined))[:, 0]

    def tower(self, x: jax.Array, name: str) -> jax.Array:
        """A layer, and one more or none."""
        x = nn.relu(nn.Dense(8, name=f"{name}_in")(x))
        deeper = nn.Sequential([nn.LayerNorm(), nn.Dense(8), nn.relu])
        return jdarts.Choice({"layer": deeper, "none": lambda x: x}, name=name)(x)


def solved(config: Config) -> Found:
    """Solves the example."""
    found: Any = load_breast_cancer()
    inputs, targets = found.data, found.target
    inputs = ((inputs - inputs.mean(axis=0)) / inputs.std(axis=0)).astype("float32")
    left, right = inputs[:, [*range(10), *range(20, 30)]], inputs[:, 10:20]
    data = split_data((left, right), targets.astype("float32"))
    return solve(Towers(), data, "binary_cross_entropy", config)


if __name__ == "__main__":
    run_example(solved, CONFIG, __doc__)
