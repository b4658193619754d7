"""The strength of three augmentations, by the validation loss.

Handwritten digits: 400 centred training images; validation and test images are shifted by up to a pixel and a half. α holds the
logarithms of three standard deviations: of the shift, of noise on the pixels, and of the contrast. All passes of a step draw the
same random numbers, so the hypergradient differentiates through them.

Expected: the shift grows from 0.1 to about 0.8 pixels, noise and contrast fall below 0.1. The test accuracy is about 91 %;
without augmentation it is 39 %.

Time: half a minute on a CPU.     Command:  python experiments/bilevel/augmentation.py
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from example import BLUE, GREEN, GREY, ORANGE, Config, Outcome, run_example
from jax.scipy.ndimage import map_coordinates
from matplotlib.axes import Axes
from sklearn.datasets import load_digits

import jdarts

CONFIG = Config(out=Path("runs/bilevel/augmentation.png"), steps=1500)
NAMES, START, TRAIN, VALID = ("shift, pixels", "noise", "contrast"), 0.1, 400, 400
WEIGHTS, ALPHAS = optax.sgd(0.05, momentum=0.9), optax.adam(0.01)


def shifted(images: jax.Array, by: jax.Array) -> jax.Array:
    """Images `[N, 8, 8]` shifted by `[N, 2]` pixels, with linear interpolation."""
    grid = jnp.stack(jnp.meshgrid(jnp.arange(8.0), jnp.arange(8.0), indexing="ij"))
    return jax.vmap(lambda image, by: map_coordinates(image, list(grid - by[:, None, None]), order=1))(images, by)


def augmented(images: jax.Array, alphas: jax.Array, key: jax.Array) -> jax.Array:
    """Images with random shifts, noise and contrast of the given strengths."""
    shift, noise, contrast = jnp.exp(alphas)
    of_shift, of_noise, of_contrast = jax.random.split(key, 3)
    images = shifted(images, shift * jax.random.normal(of_shift, (len(images), 2)))
    images *= 1 + contrast * jax.random.normal(of_contrast, (len(images), 1, 1))
    return images + noise * jax.random.normal(of_noise, images.shape)


def logits(weights: Any, images: jax.Array) -> jax.Array:
    """A network with one hidden layer, `[N, 10]`."""
    return jax.nn.relu(images.reshape(len(images), 64) @ weights["in"]) @ weights["out"]


def loss_fn(weights: Any, alphas: jax.Array, model_state: tuple[()], batch: Any, key: jax.Array) -> Any:
    """Cross entropy, of augmented images in training."""
    images, labels, training = batch
    found = logits(weights, augmented(images, alphas, key) if training else images)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(found, labels)), (model_state, {})


def solve(config: Config) -> Outcome:
    """Learns the strengths, and trains the network without augmentation beside it."""
    keys = jax.random.split(jax.random.key(config.seed), 4)
    images, labels = (jnp.asarray(each)[jax.random.permutation(keys[0], 1797)] for each in load_digits(return_X_y=True))
    images = images.reshape(-1, 8, 8).astype(jnp.float32) / 16
    moved = shifted(images, jax.random.uniform(keys[1], (1797, 2), minval=-1.5, maxval=1.5))
    valid = moved[TRAIN : TRAIN + VALID], labels[TRAIN : TRAIN + VALID], False
    parts: dict[str, Any] = {"weight_optimizer": WEIGHTS, "alpha_optimizer": ALPHAS}
    first = {"in": jax.random.normal(keys[2], (64, 64)) / 8, "out": jax.random.normal(keys[3], (64, 10)) / 8}
    start = jdarts.init_state(keys[2], first, jnp.full(3, jnp.log(START)), **parts)

    def run(state: jdarts.BilevelState, learns: bool) -> Any:
        def step(state: jdarts.BilevelState, nothing: None) -> tuple[jdarts.BilevelState, Any]:
            train = images[:TRAIN], labels[:TRAIN], learns
            state, _ = jdarts.bilevel_step(state, train, valid, loss_fn=loss_fn, hypergradient=jdarts.exact(), **parts)
            right = jnp.argmax(logits(state.weights, moved[TRAIN + VALID :]), axis=1) == labels[TRAIN + VALID :]
            return state, (jnp.mean(right), jnp.exp(state.alphas))

        return jax.lax.scan(step, state, length=config.steps)[1]

    learned, strengths = jax.jit(run, static_argnums=1)(start, True)
    plain, _ = jax.jit(run, static_argnums=1)(start, False)

    def draw(left: Axes, right: Axes) -> None:
        for name, colour, each in zip(NAMES, (BLUE, GREEN, GREY), strengths.T):
            left.plot(each, color=colour, label=name)
        left.set(title="strength of the augmentations", xlabel="bilevel step", yscale="log")
        right.plot(100 * learned, color=BLUE, label="learned augmentation")
        right.plot(100 * plain, color=ORANGE, label="none")
        right.set(title="accuracy on shifted digits, %", xlabel="bilevel step")

    numbers = {"learned": float(learned[-1]), "plain": float(plain[-1]), "shift": float(strengths[-1, 0])}
    numbers |= {"noise": float(strengths[-1, 1]), "contrast": float(strengths[-1, 2])}
    text = (
        "accuracy {learned:.1%}, with none {plain:.1%}; shift {shift:.2f}, noise {noise:.2f}, contrast {contrast:.2f}"
    )
    return Outcome(text, numbers, draw)


if __name__ == "__main__":
    run_example(solve, CONFIG, __doc__)
