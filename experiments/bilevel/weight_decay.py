"""One weight decay for each input of a linear model.

The outcome depends on 4 of 40 inputs, and 60 training examples are few. Each weight's decay is 3 sigmoid(α);
the inner problem is ridge regression.

Expected: the decays of the useless inputs grow and those of the useful ones vanish. The test error falls well below that of the
best single decay, close to the noise.

Time: seconds on a CPU.     Command:  python experiments/bilevel/weight_decay.py
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from example import BLUE, GREY, ORANGE, Config, Outcome, bilevel_steps, lines, run_example, settings
from matplotlib.axes import Axes

import jdarts

CONFIG = settings("weight_decay", steps=2000)
INPUTS, USEFUL, NOISE = 40, 4, 0.5
WEIGHTS, ALPHAS = optax.sgd(0.05, momentum=0.9), optax.adam(0.03)


def decay(alphas: jax.Array) -> jax.Array:
    """Bounded, since a step of fixed length diverges where it is too large."""
    return 3 * jax.nn.sigmoid(alphas)


def loss_fn(weights: jax.Array, alphas: jax.Array, model_state: tuple[()], batch: Any, key: jax.Array) -> Any:
    """Squared error; with the penalty on the training examples."""
    x, y, penalised = batch
    error = jnp.mean((x @ weights - y) ** 2)
    return error + penalised * jnp.sum(decay(alphas) * weights**2), (model_state, {"error": error})


def examples(key: jax.Array, count: int, penalised: bool) -> tuple[jax.Array, jax.Array, float]:
    """Inputs `[count, INPUTS]`, outcomes `[count]`, and whether the loss has its penalty."""
    draws = jax.random.normal(key, (count, INPUTS + 1))
    return draws[:, :-1], jnp.sum(draws[:, :USEFUL], axis=1) + NOISE * draws[:, -1], float(penalised)


def best_single_decay(train: Any, test: Any) -> jax.Array:
    """The least test error of ridge regression with one decay for all weights."""
    x, y, _ = train
    product = x.T @ x / len(y)
    fits = [jnp.linalg.solve(product + each * jnp.eye(INPUTS), x.T @ y / len(y)) for each in jnp.logspace(-4, 1, 40)]
    return jnp.min(jnp.stack([jnp.mean((test[0] @ fit - test[1]) ** 2) for fit in fits]))


def solve(config: Config) -> Outcome:
    """Fits decays and weights."""
    of_train, of_valid, of_test = jax.random.split(jax.random.key(config.seed), 3)
    train, valid, test = examples(of_train, 60, True), examples(of_valid, 60, False), examples(of_test, 1000, False)
    parts: dict[str, Any] = {"weight_optimizer": WEIGHTS, "alpha_optimizer": ALPHAS}
    state = jdarts.init_state(of_test, jnp.zeros(INPUTS), jnp.full(INPUTS, -3.0), **parts)

    def test_error(state: jdarts.BilevelState) -> jax.Array:
        return loss_fn(state.weights, state.alphas, (), test, state.key)[0]

    state, errors = bilevel_steps(state, train, valid, config.steps, test_error, loss_fn=loss_fn, **parts)
    single = float(best_single_decay(train, test))

    def draw(left: Axes, right: Axes) -> None:
        left.bar(range(INPUTS), decay(state.alphas), color=[BLUE] * USEFUL + [GREY] * (INPUTS - USEFUL))
        left.set(title="learned decay of each input (the first 4 are useful)", xlabel="input")
        right.axhline(single, color=ORANGE, linestyle="--", label="best single decay")
        lines(right, {"a decay for each input": (errors, BLUE)}, title="test error", yscale="log")

    numbers = {"error": float(errors[-1]), "single": single, "noise": NOISE**2}
    text = "test error {error:.3f}; best single decay {single:.3f}; noise alone {noise:.3f}"
    return Outcome(text, numbers, draw)


if __name__ == "__main__":
    run_example(solve, CONFIG, __doc__)
