"""Choices inside NNX networks: the same functions as in Linen, and the same bilevel step."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from choice_networks import INPUTS, LABELS, Blocks
from flax import linen as nn
from flax import nnx

import jdarts
from jdarts.choice import nnx as choices
from jdarts.nets.counts import count_weights

pytestmark = pytest.mark.usefixtures("standard_promotion")

BATCH = INPUTS, LABELS
OTHER = jax.random.normal(jax.random.key(2), INPUTS.shape), (LABELS + 1) % 3


def linear(inputs, outputs, rngs):
    return nnx.Linear(inputs, outputs, param_dtype=jnp.float64, rngs=rngs)


class Normed(nnx.Module):
    def __init__(self, rngs):
        self.linear = linear(3, 3, rngs)
        self.norm = nnx.BatchNorm(3, param_dtype=jnp.float64, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.linear(x))


class Network(nnx.Module):
    """The network `choice_networks.Blocks`, and more where `whole` says so."""

    def __init__(self, rngs, *, whole=False):
        self.first = linear(5, 3, rngs)
        self.blocks = nnx.List(
            choices.Choice({"dense": linear(3, 3, rngs), "tanh": jnp.tanh, "none": None}) for _ in range(2)
        )
        self.last = linear(3, 3, rngs)
        self.rest = nnx.List([])
        if whole:
            activation = choices.Choice({"relu": nnx.relu, "tanh": jnp.tanh})
            again = choices.Choice({"relu": nnx.relu, "tanh": jnp.tanh}, alphas=activation.alphas)
            width = choices.WidthChoice(lambda width: linear(3, width, rngs), (2, 4))
            normed = choices.Choice({"normed": Normed(rngs), "skip": lambda x: x})
            self.rest = nnx.List([activation, again, normed, choices.InputChoice(3, k=2), width, linear(4, 3, rngs)])

    def __call__(self, x):
        x = start = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        if len(self.rest):
            rest: Any = self.rest
            activation, again, normed, inputs, width, after = rest
            x = inputs([start, again(normed(activation(x))), x])
            x = after(nnx.relu(width(x)))
        return self.last(x)


@pytest.fixture(scope="module")
def small() -> Any:
    with jax.numpy_dtype_promotion("standard"):
        return choices.split(Network(nnx.Rngs(0)), key=jax.random.key(3))


@pytest.fixture(scope="module")
def whole() -> Any:
    with jax.numpy_dtype_promotion("standard"):
        *parts, model_state = choices.split(Network(nnx.Rngs(0), whole=True), key=jax.random.key(3))
    # Batch norms of NNX begin in float32, whatever their type is.
    return *parts, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model_state)


def test_it_is_the_network_of_linen(small):
    graph, weights, alphas, model_state = small

    def of(state):
        return {name: state[name][...] for name in ("kernel", "bias")}

    params = {
        "Dense_0": of(weights["first"]),
        "Dense_3": of(weights["last"]),
        **{f"block{i}": {"dense": of(weights["blocks"][i]["candidates"]["dense"])} for i in range(2)},
    }
    linen: Any = Blocks()
    _, theirs, _ = jdarts.split_variables(linen.init(jax.random.key(0), INPUTS))
    theirs = {f"block{i}": each.replace(values=alphas[f"blocks/{i}"].values) for i, each in enumerate(theirs.values())}
    expected = linen.apply(jdarts.join_variables(params, theirs), INPUTS)
    np.testing.assert_allclose(choices.join(graph, weights, alphas, model_state)(INPUTS), expected, atol=1e-12)
    assert alphas["blocks/0"].spec == theirs["block0"].spec


def test_the_exact_hypergradient_is_the_gradient_through_the_unrolled_step(small):
    graph, weights, alphas, model_state = small
    loss_fn, rate = choices.network_loss(graph), 0.1
    optimizers = {"weight_optimizer": optax.sgd(rate), "alpha_optimizer": optax.sgd(1.0)}
    state = jdarts.init_state(jax.random.key(0), weights, alphas, model_state, **optimizers)

    def loss(weights, alphas, batch):
        return loss_fn(weights, alphas, model_state, batch, state.key)[0]

    def through_the_step(alphas):
        gradient = jax.grad(loss)(weights, alphas, BATCH)
        return loss(jax.tree.map(lambda w, g: w - rate * g, weights, gradient), alphas, OTHER)

    new, _ = jax.jit(functools.partial(jdarts.bilevel_step, loss_fn=loss_fn, **optimizers))(state, BATCH, OTHER)
    for name, expected in jax.jit(jax.grad(through_the_step))(alphas).items():
        np.testing.assert_allclose(alphas[name].values - new.alphas[name].values, expected.values, rtol=0, atol=1e-9)


def test_steps_move_statistics_and_shared_alphas(whole):
    graph, weights, alphas, model_state = whole
    assert set(alphas) == {"blocks/0", "blocks/1", "rest/0", "rest/2", "rest/3", "rest/4"}
    optimizers = {"weight_optimizer": optax.sgd(0.1), "alpha_optimizer": optax.adam(0.1)}
    state = jdarts.init_state(jax.random.key(0), weights, alphas, model_state, **optimizers)
    settings = {"loss_fn": choices.network_loss(graph), "hypergradient": jdarts.first_order(), **optimizers}
    new, metrics = jax.jit(functools.partial(jdarts.bilevel_step, **settings))(state, BATCH, OTHER)
    assert jax.tree.structure(new) == jax.tree.structure(state) and np.isfinite(metrics["train/loss"])
    moved = [np.any(a != b) for a, b in zip(jax.tree.leaves(new.model_state), jax.tree.leaves(model_state))]
    assert moved and all(moved)
    assert all(np.any(each.values != alphas[name].values) for name, each in new.alphas.items())


@pytest.mark.parametrize(("activation", "block", "width"), [("tanh", "none", "2"), ("relu", "dense", "4")])
def test_the_decided_network_is_the_mixture_at_one_hot_weights(whole, activation, block, width):
    graph, weights, alphas, model_state = whole
    chosen = {
        "blocks/0": block,
        "blocks/1": "tanh",
        "rest/0": activation,
        "rest/2": "skip",
        "rest/3": ("1", "2"),
        "rest/4": width,
    }
    large = {
        name: each.replace(values=jnp.array([1e3 * (candidate in chosen[name]) for candidate in each.spec.candidates]))
        for name, each in alphas.items()
    }
    mixture = choices.join(graph, weights, large, model_state)
    decided = choices.decided(mixture, chosen)
    np.testing.assert_allclose(decided(INPUTS), mixture(INPUTS), atol=1e-6)
    _, kept, others = nnx.split(decided, nnx.Param, ...)
    # A dense layer of 12 weights, or two; the normed candidate of 18 goes.
    assert count_weights(kept) == count_weights(weights) - 18 - (12 if block == "dense" else 24)
    assert not nnx.to_flat_state(others)
    assert jdarts.decide(large) == chosen


class Layer(nnx.Module):
    def __init__(self, rngs):
        self.block = choices.Choice({"dense": linear(5, 5, rngs), "tanh": jnp.tanh, "none": None})

    def __call__(self, x):
        return x + self.block(x)


class Layers(nnx.Module):
    """Three layers in a scan, or side by side by vmap."""

    def __init__(self, rngs, *, scanned):
        self.scanned = scanned
        self.layers = nnx.split_rngs(splits=3)(nnx.vmap(Layer, in_axes=(0,), out_axes=0))(rngs)

    def __call__(self, x):
        if not self.scanned:
            return nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))(self.layers, x).sum(axis=0)
        return nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.layers)


@pytest.mark.parametrize("scanned", [True, False])
@pytest.mark.parametrize("chosen", ["tanh", "dense"])
def test_each_layer_of_a_scan_or_a_vmap_has_alphas(scanned, chosen):
    graph, weights, alphas, model_state = choices.split(Layers(nnx.Rngs(0), scanned=scanned), key=jax.random.key(1))
    assert {name: each.values.shape for name, each in alphas.items()} == {"layers/block": (3, 3)}
    row = 1e3 * jnp.array([candidate == chosen for candidate in alphas["layers/block"].spec.candidates])
    large = {"layers/block": alphas["layers/block"].replace(values=jnp.stack([row] * 3))}
    mixture = choices.join(graph, weights, large, model_state)
    decided = choices.decided(mixture, jdarts.decide(large))
    np.testing.assert_allclose(decided(INPUTS), mixture(INPUTS), atol=1e-12)
    with pytest.raises(jdarts.InputError, match="the layers of layers/block choose differently"):
        choices.decided(mixture, {"layers/block": ("dense", "tanh", "dense")})


def test_a_choice_with_one_candidate_is_that_candidate():
    only = choices.Choice({"only": jnp.tanh})
    np.testing.assert_allclose(only(INPUTS), jnp.tanh(INPUTS), atol=1e-12)
    assert choices.decided(only, {"choice": "only"}).names == ("only",)


def test_a_decided_choice_takes_the_keywords_of_all_candidates():
    choice = choices.Choice({"scaled": lambda x, scale: x * scale, "skip": lambda x: x})
    np.testing.assert_array_equal(choices.decided(choice, {"choice": "skip"})(INPUTS, scale=2.0), INPUTS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda rngs: choices.Choice({"two": linear(5, 2, rngs), "three": linear(5, 3, rngs)})(INPUTS),
            r"candidates of the choice of two, three have outputs of different shapes \(two \(8, 2\), three \(8, 3\)\)",
        ),
        (lambda rngs: choices.InputChoice(["a", "a"]), "has the inputs 'a, a', with one name twice"),
        (lambda rngs: choices.Choice({}), "has no candidates; give one or more"),
        (
            lambda rngs: choices.Choice([linear(5, 5, rngs)]),  # pyright: ignore[reportArgumentType]
            "candidates of a choice are 'list'; give a dictionary",
        ),
        (lambda rngs: choices.Choice({"a": nnx.Linear}), "a = the class Linear; give a module of it, or a function"),
        (lambda rngs: choices.Choice({"a": nn.Dense(5)}), "has a = a Linen module; give a model of NNX, or nnx.bridge"),
        (
            lambda rngs: nnx.split_rngs(splits=2)(nnx.vmap(lambda rngs: choices.Choice({"a": linear(5, 5, rngs)})))(
                rngs
            )(INPUTS),
            "the choice of a has alphas for 2 layers, and is called as one; call it in the scan or vmap",
        ),
        (
            lambda rngs: choices.WidthChoice(linear(5, 4, rngs), (2, 4)),  # pyright: ignore[reportArgumentType]
            r"the choice of 2, 4 has the layer Linear\(…\); give what makes it of a width",
        ),
        (
            lambda rngs: choices.WidthChoice(lambda width: linear(5, 3, rngs), (2, 4))(INPUTS),
            r"layer of width 4, and its output has shape \(8, 3\)",
        ),
    ],
)
def test_choices_that_do_not_fit_are_refused(make, message):
    with pytest.raises(jdarts.InputError, match=message):
        make(nnx.Rngs(0))


def test_wrong_choices_are_refused():
    with pytest.raises(jdarts.InputError, match=r"no choices; put a jdarts.choice.nnx.Choice into it"):
        choices.split(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
    first = choices.Choice({"relu": nnx.relu})
    with pytest.raises(jdarts.InputError, match="a choice of tanh has the alphas of a choice of relu; share alphas"):
        choices.Choice({"tanh": jnp.tanh}, alphas=first.alphas)
    with pytest.raises(jdarts.InputError, match="keeps k=3 of 2 inputs; give a k from 1 to 2"):
        choices.InputChoice(2, k=3)
    with pytest.raises(jdarts.InputError, match="a choice of the inputs 0, 1 has 0; give the same"):
        choices.InputChoice(2)([INPUTS])
    with pytest.raises(jdarts.InputError, match="called with train=, and none of relu takes it"):
        first(INPUTS, train=True)
    with pytest.raises(jdarts.InputError, match="choice is 'gelu'; give one of relu"):
        choices.decided(first, {"choice": "gelu"})
