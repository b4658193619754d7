"""Several weight steps for one alpha step."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jdarts
from jdarts.errors import InputError

STEPS = 3
WEIGHTS = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.2, momentum=0.9))
ALPHAS = optax.sgd(0.5)


def loss(weights, alphas, model_state, batch, key):
    """A small network with noise that follows the key; its state counts batches."""
    x, y = batch
    noise = 1 + 0.1 * jax.random.normal(key, (5,), x.dtype)
    hidden = jnp.tanh(x @ weights["in"]) * (jax.nn.sigmoid(alphas) * noise)[None]
    error = hidden @ weights["out"] - y
    return jnp.mean(error**2), (model_state + 1, {"error": jnp.mean(jnp.abs(error)), "state": model_state})


pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.fixture
def start():
    draw = np.random.default_rng(0)
    with jax.enable_x64(True):
        weights = {"in": jnp.asarray(draw.normal(size=(3, 5))), "out": jnp.asarray(draw.normal(size=5))}
        state = jdarts.init_state(
            jax.random.key(1),
            weights,
            jnp.asarray(draw.normal(size=5)),
            jnp.zeros((), jnp.int32),
            weight_optimizer=WEIGHTS,
            alpha_optimizer=ALPHAS,
        )
        batches = [(jnp.asarray(draw.normal(size=(8, 3))), jnp.asarray(draw.normal(size=8))) for _ in range(STEPS + 1)]
        yield state, tuple(batches[:STEPS]), batches[STEPS]


def step(state, train, valid, axis_name=None, **options):
    return jdarts.bilevel_step(
        state,
        train,
        valid,
        loss_fn=loss,
        weight_optimizer=WEIGHTS,
        alpha_optimizer=ALPHAS,
        **{"axis_name": axis_name, "weight_steps": STEPS, "hypergradient": jdarts.unrolled(STEPS), **options},
    )


def by_hand(state, train):
    """Keys of the passes, and weights and optimiser's state after the weight steps, as a function of the alphas."""
    key, valid_key = jax.random.split(jax.random.fold_in(state.key, state.step))

    def steps(alphas):
        weights, opt_state, losses = state.weights, state.weight_opt_state, []
        for place, batch in enumerate(train):
            own = jax.random.fold_in(key, place) if place else key
            (value, _), gradient = jax.value_and_grad(loss, has_aux=True)(weights, alphas, 0, batch, own)
            updates, opt_state = WEIGHTS.update(gradient, opt_state, weights)
            weights = optax.apply_updates(weights, updates)
            losses.append(value)
        return weights, opt_state, losses

    return steps, valid_key


def test_unrolled_differentiates_through_all_of_them(start):
    state, train, valid = start
    steps, valid_key = by_hand(state, train)
    gradient = jax.grad(lambda alphas: loss(steps(alphas)[0], alphas, 0, valid, valid_key)[0])(state.alphas)
    new, metrics = step(state, train, valid)
    expected = state.alphas - 0.5 * gradient
    chex.assert_trees_all_close(new.alphas, expected, rtol=1e-9)
    weights, opt_state, losses = steps(expected)
    chex.assert_trees_all_close((new.weights, new.weight_opt_state), (weights, opt_state), rtol=1e-9)
    np.testing.assert_allclose(metrics["train/loss"], np.mean(losses), rtol=1e-9)
    assert new.model_state == STEPS
    assert metrics["train/state"] == STEPS - 1
    assert new.step == 1


def test_the_other_estimators_see_the_first_batch(start):
    state, train, valid = start
    alone, _ = step(state, train[0], valid, weight_steps=1, hypergradient=jdarts.exact())
    among, _ = step(state, train, valid, hypergradient=jdarts.exact())
    chex.assert_trees_all_close(among.alphas, alone.alphas, rtol=1e-12)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(step(state, train, valid)[0].alphas, alone.alphas, rtol=1e-6)


def test_the_weights_may_come_first(start):
    state, train, valid = start
    steps, _ = by_hand(state, train)
    new, _ = step(state, train, valid, order="weights_first", hypergradient=jdarts.first_order())
    chex.assert_trees_all_close(new.weights, steps(state.alphas)[0], rtol=1e-9)


def moved(state):
    return state.weights, state.alphas, state.weight_opt_state, state.model_state


def test_compiled_mapped_and_spread_over_devices(start, monkeypatch):
    state, train, valid = start
    expected = moved(step(state, train, valid)[0])
    chex.assert_trees_all_close(moved(jax.jit(step)(state, train, valid)[0]), expected, rtol=1e-9)
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
    mapped, _ = jdarts.vmap_step(step, stacked=(False, False))(both, train, valid)
    chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[1], moved(mapped)), expected, rtol=1e-9)
    # Devices draw different noise; without it they have the numbers of one.
    monkeypatch.setattr(jax.random, "normal", lambda key, shape, dtype: jnp.zeros(shape, dtype))
    expected = moved(step(state, train, valid)[0])
    for spread in (jdarts.shard_step(step, 2), jdarts.pmap_step(step, 2)):
        chex.assert_trees_all_close(moved(spread(state, train, valid)[0]), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda train: {"weight_steps": 0}, "weight_steps is 0; give 1 or more"),
        (lambda train: {"train": train[:2]}, "train_batch is 2 batches; give a tuple of 3"),
        (lambda train: {"train": train[0][0]}, "give a tuple of 3 batches for 3 weight steps"),
        (
            lambda train: {"train": (*train[:2], jax.tree.map(lambda leaf: leaf[:4], train[2]))},
            "differ in their shapes",
        ),
    ],
)
def test_wrong_batches_are_refused(start, change, words):
    state, train, valid = start
    options = change(train)
    with pytest.raises(InputError, match=words):
        functools.partial(step, state)(options.pop("train", train), valid, **options)
