"""The language model: counts, padding, masks, wrong calls; and the mixture of highway updates against a plain one."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdarts import zoo
from jdarts.errors import InputError
from jdarts.nets.language import LanguageModel, Masks, Rates, draw_masks, mean_loss, regularisation, token_losses
from jdarts.nets.language_loss import Segment, language_loss
from jdarts.operations import ACTIVATIONS
from jdarts.ops.highway import mixed_highway
from jdarts.ops.recurrent import highway
from jdarts.relaxation import GIVEN, MixtureWeights
from jdarts.space import recurrent_space

SPACE = recurrent_space(nodes=2)
SMALL = LanguageModel(SPACE, vocabulary=7, width=5)


def count(model):
    tokens, hidden = np.zeros((1, 1), np.int32), np.zeros((1, model.width), np.float32)
    searched = not hasattr(model.cell, "to_json")
    alphas = np.zeros((model.cell.num_edges, model.cell.width), np.float32) if searched else None
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), tokens, hidden, alphas, train=True))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def test_the_papers_counts():
    assert count(LanguageModel(recurrent_space(), 10_000, 300)) == 4_810_000
    assert count(LanguageModel(zoo.DARTS_V2_RECURRENT, 10_000, 850)) == 22_960_000
    assert count(LanguageModel(zoo.DARTS_V1_RECURRENT, 33_278, 700)) == 33_127_878
    assert count(LanguageModel(zoo.ENAS, 10_000, 850)) == 27_295_000


def plain_mixture(weights, states, gates, candidates):
    """Edge by edge and activation by activation."""
    products = jnp.concatenate([gates, candidates], axis=-1)
    result = jnp.zeros(states.shape[1:], states.dtype)
    for p in range(states.shape[0]):
        for column, name in enumerate(("tanh", "relu", "sigmoid", "identity")):
            result += weights[p, column] * highway(states[p], products[p], ACTIVATIONS[name].function)
    return result


def mixture_and_two_derivatives(function, width):
    draw = np.random.default_rng(width)
    shapes = ((3, 4), *[(3, 7, width)] * 3)
    arguments = tuple(2 * draw.normal(size=shape) for shape in shapes)
    change = tuple(draw.normal(size=shape) for shape in shapes)
    cotangent = draw.normal(size=shapes[1][1:])

    @jax.jit
    def everything():
        def slope(arguments, cotangent):
            return jax.vjp(function, *arguments)[1](cotangent)

        value, first = function(*arguments), slope(arguments, cotangent)
        return value, first, jax.vjp(slope, arguments, cotangent)[1](change)

    return jax.device_get(everything())


#: Of the plain mixture: one result for both ways to compute.
of_the_plain_mixture = functools.cache(functools.partial(mixture_and_two_derivatives, plain_mixture))


@pytest.mark.parametrize("width", [3, 600])
def test_a_mixture_and_two_derivatives_equal_the_plain_ones(path, width):
    found, expected = mixture_and_two_derivatives(mixed_highway, width), of_the_plain_mixture(width)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-11 * max(1, np.abs(other).max()))


def test_a_mixture_of_numbers_that_are_not_finite_or_huge(path):
    mixed, ones = jax.jit(mixed_highway), np.ones((1, 1, 3), np.float32)
    weights = np.array([[0.5, 0.0, 0.5, 0.0]], np.float32)
    result = np.asarray(mixed(weights, ones, 1e4 * ones, np.array([[[np.nan, 1e4, -1e4]]], np.float32)))
    assert np.isnan(result[0, 0])
    np.testing.assert_allclose(result[0, 1:], [1.0, -0.5])
    # A gate that is open, and one that is closed, for good.
    gates = np.array([[[np.inf, -np.inf, -np.inf]]], np.float32)
    result = np.asarray(mixed(weights, 3 * ones, gates, 0 * ones))
    np.testing.assert_allclose(result[0], [0.25, 3.0, 3.0])


def test_a_batch_of_mixtures():
    draw = np.random.default_rng(0)
    weights, states, gates, candidates = (
        draw.normal(size=shape) for shape in ((2, 3, 4), (3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5))
    )
    found = jax.jit(jax.vmap(mixed_highway, in_axes=(0, None, 0, 0)))(weights, states, gates, candidates)
    mixed = jax.jit(mixed_highway)
    for lane in range(2):
        expected = mixed(weights[lane], states, gates[lane], candidates[lane])
        np.testing.assert_allclose(found[lane], expected, rtol=1e-12)


def segment(length, padding, model=SMALL, masks=None):
    draw = np.random.default_rng(1)
    words = draw.integers(model.vocabulary, size=(length + 1, 4))
    tokens: Any = np.concatenate([words, np.full((padding, 4), words[0, 0])]).astype(np.int32)
    hidden: Any = draw.normal(size=(4, model.width)).astype(np.float32)
    given: Any = np.int32(length) if padding else None
    return Segment(tokens[:-1], tokens[1:], hidden, given, masks or Masks(), 0.3, 0.7)


def initial(model):
    return jax.jit(functools.partial(model.init, train=True))


def test_factors_of_edges_multiply_those_of_their_operations():
    model = SMALL.clone(mixture=GIVEN, dtype=jnp.float64)
    draw = np.random.default_rng(0)
    tokens, hidden = np.array([[0, 3, 6], [1, 4, 2]], np.int32), draw.normal(size=(3, 5))
    operations: Any = {"recurrent": draw.uniform(size=(3, 5))}
    edges: Any = np.array([0.2, 0.7, 0.3])
    variables = initial(model)(jax.random.key(0), tokens, hidden, MixtureWeights(operations))

    @jax.jit
    def logits(weights):
        return model.apply(variables, tokens, hidden, weights, train=True, mutable=["batch_stats"])[0].logits

    found = logits(MixtureWeights(operations, {"recurrent": edges}))
    product, alone = (
        np.asarray(logits(MixtureWeights({"recurrent": operations["recurrent"] * factors})))
        for factors in (edges[:, None], 1)
    )
    np.testing.assert_allclose(found, product, rtol=1e-12)
    assert np.max(np.abs(found - alone)) > 1e-6


def drawn(rates, **sizes):
    return jax.jit(functools.partial(draw_masks, rates=rates, **sizes, dtype=jnp.float32))(jax.random.key(5))


@pytest.mark.parametrize("cell", [SPACE, zoo.DARTS_V1_RECURRENT], ids=["search", "discrete"])
def test_padding_changes_nothing(cell):
    model = LanguageModel(cell, 7, 5)
    masks = drawn(Rates(0.2, 0.2, 0.5, 0.25, 0.5), vocabulary=7, batch=4, width=5)
    alphas = np.random.default_rng(4).normal(size=(3, 5)).astype(np.float32) if cell is SPACE else None
    first = segment(4, 0, model)
    variables = initial(model)(jax.random.key(0), first.tokens, first.hidden, alphas)
    stats = variables.get("batch_stats", {})

    def everything(segment):
        def loss(weights, alphas):
            return language_loss(model)(weights, alphas, stats, segment, jax.random.key(0))

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(variables["params"], alphas)

    whole, padded = everything(segment(4, 0, model, masks)), everything(segment(4, 3, model, masks))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), whole, padded)


def test_losses_and_regularisation_by_hand():
    logits = np.log([[[0.5, 0.25, 0.25]], [[0.1, 0.8, 0.1]], [[0.3, 0.3, 0.4]]])
    losses = jax.jit(token_losses)(logits, np.array([[0], [1], [2]]))
    np.testing.assert_allclose(np.asarray(losses)[:, 0], -np.log([0.5, 0.8, 0.4]), rtol=1e-12)
    np.testing.assert_allclose(jax.jit(mean_loss)(losses, np.int32(2)), -np.log([0.5, 0.8]).mean(), rtol=1e-12)
    first = segment(3, 0)
    alphas = np.zeros((3, 5), np.float32)
    variables = initial(SMALL)(jax.random.key(0), first.tokens, first.hidden, alphas)
    twos: Any = np.full((4, 5), 2, np.float32)
    apply = jax.jit(functools.partial(SMALL.apply, train=True, mutable=["batch_stats"]))
    prediction, _ = apply(variables, first.tokens, first.hidden, alphas, masks=Masks(output=twos))
    regular = jax.jit(functools.partial(regularisation, activation=0.3, temporal=0.7))
    outputs = np.asarray(prediction.outputs, np.float64)
    for length in (1, 2, 3):
        expected = 0.3 * np.mean((2 * outputs[:length]) ** 2)
        expected += 0.7 * np.mean(np.diff(outputs[:length], axis=0) ** 2) if length > 1 else 0
        np.testing.assert_allclose(regular(prediction, length=np.int32(length)), expected, rtol=1e-5)


def test_masks_are_scaled_and_of_their_rates():
    rates = Rates(embedding=0.1, x=0.75, hidden=0.25)
    masks = jax.device_get(drawn(rates, vocabulary=2000, batch=40, width=50))
    assert masks.input is None and masks.output is None
    for mask, rate, shape in (
        (masks.embedding, 0.1, (2000, 1)),
        (masks.x, 0.75, (40, 50)),
        (masks.hidden, 0.25, (40, 50)),
    ):
        assert mask is not None and mask.shape == shape
        assert set(np.unique(mask)) == {0, np.float32(1) / np.float32(1 - rate)}
        np.testing.assert_allclose(np.mean(mask == 0), rate, atol=0.04)


def test_wrong_calls_are_explained():
    first, alphas = segment(3, 0), np.zeros((3, 5), np.float32)
    for arguments, words in (
        ((first.tokens[0], first.hidden, alphas), r"tokens are int32 \(4,\); give integers \[T, B\]"),
        ((first.tokens, first.hidden[:2], alphas), r"hidden state is float32 \(2, 5\); give float32 \(4, 5\)"),
        ((first.tokens, first.hidden, None), "needs alphas"),
        ((first.tokens, first.hidden, alphas[:2]), r"shape \(2, 5\); this space needs \(3, 5\)"),
    ):
        with pytest.raises(InputError, match=words):
            SMALL.init(jax.random.key(0), *arguments, train=True)
    with pytest.raises(InputError, match="leave them out"):
        LanguageModel(zoo.ENAS, 7, 5).init(jax.random.key(0), first.tokens, first.hidden, alphas, train=True)
