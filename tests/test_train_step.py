"""The pure step of a training, against the same mathematics written out, on the real network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_train import config

from jdarts import data, zoo
from jdarts.nets.discrete import cifar_network
from jdarts.runs.images import Batch
from jdarts.train.step import Conditions, cross_entropy, network_variables
from jdarts.train.task import program_from_config as training_program

SHAPE = (8, 8, 1)


def program_of(**changes):
    """Program and start of a training of one cell with an auxiliary head on images of 8×8."""
    settings = config(None, **{"channels": 2, "cells": 1, "drop_path": 0.3, **changes})
    model = cifar_network(zoo.DARTS_V2, channels=2, cells=1, classes=10, auxiliary=False)
    program = training_program(
        settings, model, image_shape=SHAPE, augmentation=data.Augmentation(cutout=2), mean=(0.4,), std=(0.3,)
    )
    return settings, model, program, jax.jit(program.init)(3)


def batch_of(size=6, count=20):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    labels = generator.integers(0, 10, count).astype(np.int32)
    return Batch(jnp.asarray(images), jnp.asarray(labels), jnp.asarray(generator.permutation(count)[:size], jnp.int32))


def test_cross_entropy_with_smoothing_is_the_formula():
    logits = jax.random.normal(jax.random.key(0), (5, 7))
    labels = jnp.array([0, 3, 6, 6, 1], jnp.int32)
    smoothed = 0.9 * np.eye(7)[np.asarray(labels)] + 0.1 / 7
    expected = -np.mean(np.sum(smoothed * np.asarray(jax.nn.log_softmax(logits)), axis=1))
    assert cross_entropy(logits, labels, label_smoothing=0.1) == pytest.approx(expected, rel=1e-12)
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    assert cross_entropy(logits, labels) == pytest.approx(float(plain), rel=1e-12)


@pytest.fixture(scope="module")
def trained():
    """Two steps: the states before, between and after, and the metrics of each."""
    settings, model, program, state = program_of(label_smoothing=0.1, clip=0.5)
    step = jax.jit(program.step)
    states, metrics = [state], []
    for rate, starts in ((0.1, True), (0.05, False)):
        conditions = Conditions(jnp.float32(rate), jnp.float32(0.2), jnp.bool(starts))
        with jax.numpy_dtype_promotion("standard"):
            state, numbers = step(state, batch_of(), conditions)
        states.append(state)
        metrics.append(jax.device_get(numbers))
    return settings, model, states, metrics


def test_a_step_is_sgd_with_decay_and_momentum_on_the_clipped_gradient(trained):
    """w ← w − η·m with m ← 0.9·m + clip(g) + λ·w, from the gradient of a loss that is put together here."""
    settings, model, states, metrics = trained
    batch = batch_of()
    buffer = jax.tree.map(np.zeros_like, states[0].weights)

    def loss(weights, statistics, key):
        keys = jax.random.split(key)
        images = data.augment(keys[0], batch.images[batch.rows], data.Augmentation(cutout=2), mean=(0.4,), std=(0.3,))
        (logits, _), _ = model.apply(
            {"params": weights, "batch_stats": statistics},
            images,
            train=True,
            drop_path=jnp.float32(0.2),
            mutable=["batch_stats"],
            rngs={"drop_path": jax.random.split(keys[1])[0]},
        )
        return cross_entropy(logits, batch.labels[batch.rows], label_smoothing=0.1)

    @jax.jit
    def gradient_of_step(before, number):
        key = jax.random.fold_in(jax.random.fold_in(before.key, 1), number)
        value, gradient = jax.value_and_grad(loss)(before.weights, before.model_state, key)
        return value, gradient, optax.tree.norm(gradient)

    for number, rate in enumerate((0.1, 0.05)):
        before, after = states[number : number + 2]
        value, gradient, norm = jax.device_get(gradient_of_step(before, number))
        assert norm > settings.weights.clip
        assert metrics[number]["train/loss"] == pytest.approx(float(value), rel=1e-5)
        assert metrics[number]["weights/gradient_norm"] == pytest.approx(float(norm), rel=1e-5)
        weights, found = jax.device_get((before.weights, after.weights))
        pull = jax.tree.map(lambda g, w: g * (0.5 / norm) + 3e-4 * w, gradient, weights)  # noqa: B023
        buffer = jax.tree.map(lambda m, p: 0.9 * m + p, buffer, pull)
        expected = jax.tree.map(lambda w, m: w - rate * m, weights, buffer)  # noqa: B023
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)


def test_the_running_average_follows_the_weights_and_is_evaluated(trained):
    _, _, states, _ = trained
    average = {"params": states[0].weights, "batch_stats": states[0].model_state}
    for number, state in enumerate(states[1:], 1):
        decay = min(0.9, (1 + number) / (10 + number))
        latest = {"params": state.weights, "batch_stats": state.model_state}
        average = jax.tree.map(lambda a, w: decay * a + (1 - decay) * w, average, latest)  # noqa: B023
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.average, average)
        assert network_variables(state) is state.average


def test_sums_and_counts(trained):
    _, _, states, metrics = trained
    assert [int(state.step) for state in states] == [0, 1, 2]
    assert [int(state.not_finite_at) for state in states] == [0, 0, 0]
    for name, total in states[-1].sums.items():
        assert float(total) == pytest.approx(metrics[0][name] + metrics[1][name], rel=1e-6)
    assert {name: float(metrics[1][name]) for name in ("learning_rate", "drop_path")} == {
        "learning_rate": pytest.approx(0.05),
        "drop_path": pytest.approx(0.2),
    }


def test_the_schedules_are_those_of_the_paper():
    cifar = config(None, epochs=600, learning_rate=0.025, drop_path=0.2)
    assert cifar.learning_rate_in(0) == 0.025
    assert cifar.learning_rate_in(300) == pytest.approx(0.0125)
    assert cifar.learning_rate_in(599) == pytest.approx(0.025 * (1 + np.cos(np.pi * 599 / 600)) / 2)
    assert [cifar.drop_path_in(epoch) for epoch in (0, 300, 599)] == [0, 0.1, pytest.approx(0.2 * 599 / 600)]
    imagenet = config(None, epochs=250, learning_rate=0.1, schedule="exponential", drop_path=0.0)
    assert [imagenet.learning_rate_in(epoch) for epoch in (0, 1, 2)] == pytest.approx([0.1, 0.097, 0.09409])
    assert imagenet.drop_path_in(200) == 0
