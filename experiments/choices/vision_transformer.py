"""A small vision transformer: activation, width of the perceptron, number of heads, and whether a block is skipped.

Handwritten digits of 8×8 pixels in patches of 2×2. Both blocks share the choice of the activation.

Time: a minute or two on a CPU, half of it compilation.     Command:  python experiments/choices/vision_transformer.py
"""

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from example import Config, Found, run_example, solve, split_data
from sklearn.datasets import load_digits

import jdarts

CONFIG = Config(run_dir=Path("runs/choices/vision_transformer"), epochs=20)

WIDTH = 16


class Block(nn.Module):
    """Attention and a perceptron, each beside a skip connection."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Tokens `[B, T, WIDTH]` to the same shape."""
        heads = {str(count): nn.MultiHeadDotProductAttention(count) for count in (1, 2, 4)}
        x = x + jdarts.Choice(heads, name="heads")(nn.LayerNorm()(x))
        hidden = jdarts.WidthChoice(nn.Dense, (8, 16, 32), name="width")(nn.LayerNorm()(x))
        activations = {"relu": nn.relu, "gelu": nn.gelu, "silu": nn.silu}
        return x + nn.Dense(WIDTH)(jdarts.Choice(activations, shared="activation", name="activation")(hidden))


class Transformer(nn.Module):
    """A vision transformer.

    Attributes:
      blocks: number of blocks.
    """

    blocks: int = 2

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images `[B, 8, 8, 1]` to logits `[B, 10]`."""
        x = nn.Conv(WIDTH, (2, 2), strides=2)(images).reshape(len(images), -1, WIDTH)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, x.shape[1], WIDTH))
        for number in range(self.blocks):
            x = jdarts.Choice({"block": Block(), "skip": lambda x: x}, name=f"block{number}")(x)
        return nn.Dense(10)(jnp.mean(nn.LayerNorm()(x), axis=1))


def solved(config: Config, blocks: int = 2) -> Found:
    """Solves the example."""
    found: Any = load_digits()
    images, targets = found.data, found.target
    data = split_data((images / 16).astype("float32").reshape(-1, 8, 8, 1), targets.astype("int32"))
    return solve(Transformer(blocks), data, "cross_entropy", config)


if __name__ == "__main__":
    run_example(solved, CONFIG, __doc__)
