"""A weight for each training example, where 40 % of the labels are wrong.

Handwritten digits: 600 training images, 240 of them with a random wrong label, and 200 images with checked labels. α holds one
number for each training image; its sigmoid weighs the image's loss. The validation loss knows no α, so all of the hypergradient
is implicit: `first_order()` would learn nothing.

Expected: the weights of images with wrong labels fall towards 0, and the test accuracy rises from about 62 % with
equal weights to about 95 %.

Time: seconds on a CPU.     Command:  python experiments/bilevel/label_noise.py
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from digits import digits, logits
from example import BLUE, GREEN, ORANGE, Config, Outcome, bilevel_steps, lines, run_example, settings
from matplotlib.axes import Axes

import jdarts

CONFIG = settings("label_noise", steps=1500)
TRAIN, VALID, WRONG, HIDDEN = 600, 200, 240, 64
WEIGHTS, ALPHAS = optax.sgd(0.1, momentum=0.9), optax.adam(0.05)


def loss_fn(weights: Any, alphas: jax.Array, model_state: tuple[()], batch: Any, key: jax.Array) -> Any:
    """Cross entropy, in training weighted by the sigmoid of α."""
    x, y, weighted = batch
    losses = optax.softmax_cross_entropy_with_integer_labels(logits(weights, x, jnp.tanh), y)
    return jnp.mean(losses * jax.nn.sigmoid(alphas)) if weighted else jnp.mean(losses), (model_state, {})


def solve(config: Config) -> Outcome:
    """Learns the weights of the examples, and trains the network with equal weights beside it."""
    draw, (images, labels) = np.random.default_rng(config.seed), digits()
    order = draw.permutation(len(labels))
    x, y = jnp.asarray(images[order]), labels[order]
    noisy = y[:TRAIN].copy()
    noisy[:WRONG] = (noisy[:WRONG] + draw.integers(1, 10, WRONG)) % 10
    train, valid = (x[:TRAIN], jnp.asarray(noisy), True), (x[TRAIN:][:VALID], jnp.asarray(y[TRAIN:][:VALID]), False)
    test_x, test_y = x[TRAIN + VALID :], jnp.asarray(y[TRAIN + VALID :])
    shapes = {"in": (64, HIDDEN), "out": (HIDDEN, 10)}
    weights = {name: jnp.asarray(draw.normal(size=shape) / 8, jnp.float32) for name, shape in shapes.items()}

    def accuracy(state: jdarts.BilevelState) -> jax.Array:
        return jnp.mean(jnp.argmax(logits(state.weights, test_x, jnp.tanh), axis=1) == test_y)

    def run(alpha_optimizer: optax.GradientTransformation) -> Any:
        parts: dict[str, Any] = {"weight_optimizer": WEIGHTS, "alpha_optimizer": alpha_optimizer}
        start = jdarts.init_state(jax.random.key(0), weights, jnp.zeros(TRAIN), **parts)
        return bilevel_steps(start, train, valid, config.steps, accuracy, loss_fn=loss_fn, **parts)

    (found, learned), (_, equal) = run(ALPHAS), run(optax.set_to_zero())
    shares = jax.nn.sigmoid(found.alphas)

    def panels(left: Axes, right: Axes) -> None:
        left.hist(shares[WRONG:], 30, range=(0, 1), color=GREEN, alpha=0.7, label="right labels")
        left.hist(shares[:WRONG], 30, range=(0, 1), color=ORANGE, alpha=0.7, label="wrong labels")
        left.set(title="learned weights of the training images", xlabel="weight", ylabel="images")
        curves = {"learned weights": (100 * learned, BLUE), "equal weights": (100 * equal, ORANGE)}
        lines(right, curves, title="test accuracy, %")

    means = {"wrong": float(shares[:WRONG].mean()), "right": float(shares[WRONG:].mean())}
    numbers = {"learned": float(learned[-1]), "equal": float(equal[-1]), **means}
    text = "test accuracy {learned:.1%}, with equal weights {equal:.1%}; mean weight {right:.2f}, of wrong labels {wrong:.2f}"
    return Outcome(text, numbers, panels)


if __name__ == "__main__":
    run_example(solve, CONFIG, __doc__)
