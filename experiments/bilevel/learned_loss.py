"""A loss whose form is learned, for regression with outliers.

A third of the training outcomes are far too large. The training loss is of Barron's family (CVPR 2019), with α its shape and
scale: shape 2 is the squared error, 1 about the absolute one, and below 0 large errors hardly count. The validation loss is the
squared error on 20 clean examples.

Expected: the shape falls from 2 to below 0. The weights end about 14 times closer to the truth than least squares.

Time: seconds on a CPU.     Command:  python experiments/bilevel/learned_loss.py
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from example import BLUE, GREY, ORANGE, Config, Outcome, bilevel_steps, lines, run_example, settings
from matplotlib.axes import Axes

import jdarts

CONFIG = settings("learned_loss", steps=1500)
INPUTS, NOISE = 8, 0.3
WEIGHTS, ALPHAS = optax.sgd(0.1, momentum=0.9), optax.adam(0.02)


def form(alphas: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Shape, below 2, and scale of the training loss; at the start nearly the squared error."""
    return 2 - jax.nn.softplus(alphas[0]), jax.nn.softplus(alphas[1])


def barron(error: jax.Array, alphas: jax.Array) -> jax.Array:
    """The loss of an error, element by element."""
    shape, scale = form(alphas)
    below = jnp.abs(shape - 2)
    return below / shape * (((error / scale) ** 2 / below + 1) ** (shape / 2) - 1)


def loss_fn(weights: jax.Array, alphas: jax.Array, model_state: tuple[()], batch: Any, key: jax.Array) -> Any:
    """The learned loss in training, the squared error in validation."""
    x, y, learned = batch
    error = x @ weights - y
    return jnp.mean(barron(error, alphas) if learned else error**2), (model_state, {})


def examples(key: jax.Array, count: int, outliers: float) -> tuple[jax.Array, jax.Array]:
    """Inputs `[count, INPUTS]` and outcomes `[count]`; a share of the outcomes are outliers."""
    draws = jax.random.normal(key, (count, INPUTS + 1))
    far = 10 * (jax.random.uniform(jax.random.fold_in(key, 1), (count,)) < outliers)
    return draws[:, :-1], jnp.sum(draws[:, :-1], axis=1) + NOISE * draws[:, -1] + far


def solve(config: Config) -> Outcome:
    """Learns the loss."""
    of_train, of_valid = jax.random.split(jax.random.key(config.seed))
    x, y = examples(of_train, 200, outliers=1 / 3)
    train, valid = (x, y, True), (*examples(of_valid, 20, outliers=0), False)
    parts: dict[str, Any] = {"weight_optimizer": WEIGHTS, "alpha_optimizer": ALPHAS}
    state = jdarts.init_state(of_train, jnp.zeros(INPUTS), jnp.array([-3.0, 2.0]), **parts)
    state, errors = bilevel_steps(
        state, train, valid, config.steps, lambda state: jnp.linalg.norm(state.weights - 1), loss_fn=loss_fn, **parts
    )
    squares = float(jnp.linalg.norm(jnp.linalg.lstsq(x, y)[0] - 1))

    def draw(left: Axes, right: Axes) -> None:
        line = jnp.linspace(-12, 12, 301)
        left.plot(line, barron(line, state.alphas), color=BLUE, label="learned loss")
        left.hist(x @ jnp.ones(INPUTS) - y, 60, density=True, color=GREY, alpha=0.5, label="errors at the truth")
        left.set(title="loss of an error", xlabel="error")
        right.axhline(squares, color=ORANGE, linestyle="--", label="least squares")
        lines(right, {"learned loss": (errors, BLUE)}, title="distance of the weights from the truth", yscale="log")

    numbers = {"error": float(errors[-1]), "squares": squares, "shape": float(form(state.alphas)[0])}
    return Outcome("distance {error:.3f}, by least squares {squares:.3f}; shape {shape:.2f}", numbers, draw)


if __name__ == "__main__":
    run_example(solve, CONFIG, __doc__)
