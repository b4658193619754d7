"""Products of thinned-out activations and losses of words: against operations of JAX, with their derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_derivatives

from jdarts.nets.language import output_losses, token_losses
from jdarts.ops.dropped import dropped_product
from jdarts.ops.word_losses import word_losses

SIZES = [(1, 1, 1, 1), (5, 3, 7, 11), (13, 2, 33, 70), (4, 5, 6, 2101)]


def operands(sizes, seed=0):
    steps, batch, width, words = sizes
    random = np.random.RandomState(seed)
    mask = random.binomial(1, 0.4, (batch, width)) / 0.4
    mask[0] = 0
    return (
        jnp.asarray(random.randn(steps, batch, width)),
        jnp.asarray(mask),
        jnp.asarray(random.randn(words, width)),
        jnp.asarray(random.randn(words)),
        jnp.asarray(random.randint(0, words, (steps, batch))),
    )


def plain(outputs, mask, embedding, bias, targets):
    return token_losses((outputs * mask) @ embedding.T + bias, targets)


@pytest.mark.parametrize("sizes", SIZES)
def test_losses_and_their_derivatives(sizes, path):
    outputs, mask, embedding, bias, targets = operands(sizes)
    weights = jnp.asarray(np.random.RandomState(1).randn(*targets.shape))

    def everything(function, *moving):
        def loss(*moving):
            return jnp.sum(weights * function(moving[0], mask, *moving[1:], targets))

        def along(*moving):
            gradient = jax.grad(loss, argnums=(0, 1, 2))(*moving)
            return sum(jnp.sum(jnp.sin(one)) for one in gradient)

        return loss(*moving), jax.grad(loss, argnums=(0, 1, 2))(*moving), jax.grad(along, argnums=(0, 1, 2))(*moving)

    with jax.numpy_rank_promotion("allow"):
        moving = (outputs, embedding, bias)
        expected, found = (jax.jit(functools.partial(everything, each))(*moving) for each in (plain, output_losses))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), found, expected)


def test_products_in_both_modes_and_all_orders(path):
    outputs, mask, embedding, _, _ = operands((3, 2, 5, 7))
    check_derivatives(
        lambda x, e: jnp.sin(dropped_product(x, e, mask)),
        (outputs, embedding),
        order=3,
        atol=1e-5,
    )


def test_losses_in_both_modes_and_all_orders(path):
    outputs, mask, embedding, bias, targets = operands((2, 2, 3, 5))
    check_derivatives(
        lambda x, e, b: jnp.sin(output_losses(x, mask, e, b, targets)),
        (outputs, embedding, bias),
        order=3,
        atol=1e-4,
        rtol=1e-4,
    )


def test_targets_of_any_integer_type(path):
    """A vocabulary is larger than the numbers of a type that all targets fit."""
    random = np.random.RandomState(0)
    logits, bias = random.randn(3, 2, 40000), random.randn(40000)
    targets = np.asarray([[1, 100], [7, 0], [127, 3]])
    biased = logits + bias
    expected = np.log(np.sum(np.exp(biased), axis=-1)) - np.take_along_axis(biased, targets[..., None], axis=-1)[..., 0]

    @jax.jit
    def losses(logits, bias, biased, of_types):
        return [(word_losses(logits, bias, given), token_losses(biased, given)) for given in of_types]

    types = (np.int8, np.uint8, np.int16, np.uint32, np.int64)
    of_types = [jnp.asarray(targets.astype(dtype)) for dtype in types]
    for dtype, found in zip(types, losses(jnp.asarray(logits), jnp.asarray(bias), jnp.asarray(biased), of_types)):
        for each in found:
            np.testing.assert_allclose(each, expected, rtol=1e-12, err_msg=str(np.dtype(dtype)))


def test_lanes_of_vmap():
    outputs, mask, embedding, bias, targets = operands((3, 2, 5, 7))
    lanes = jnp.stack([outputs, -outputs])
    found = jax.jit(jax.vmap(output_losses, in_axes=(0, *[None] * 4)))(lanes, mask, embedding, bias, targets)
    alone = jax.jit(output_losses)
    for lane in range(2):
        np.testing.assert_allclose(found[lane], alone(lanes[lane], mask, embedding, bias, targets), rtol=1e-12)


def test_logits_beyond_what_exponentials_hold(path):
    logits = jnp.asarray([[[1e4, -1e4, 0.0]], [[jnp.nan, 0.0, 0.0]]], jnp.float32)
    losses = jax.jit(word_losses)(logits, jnp.zeros(3, jnp.float32), jnp.zeros((2, 1), jnp.int32))
    assert losses[0] == 0
    assert jnp.isnan(losses[1])
    losses = jax.jit(word_losses)(logits, jnp.zeros(3, jnp.float32), jnp.ones((2, 1), jnp.int32))
    assert losses[0] == 2e4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinite_logits_are_words_that_are_impossible_or_certain(path, dtype):
    inf = np.inf
    rows = np.asarray([[-inf, 0, 1], [-inf, 0, 1], [inf, 0, 1], [inf, 0, 1], [-inf, -inf, -inf]], dtype)
    targets = jnp.asarray([1, 0, 1, 0, 2])

    @jax.jit
    def losses_and_slopes(rows):
        losses, pull = jax.vjp(lambda x: word_losses(x, jnp.zeros(3, dtype), targets[None]), rows)
        return losses, pull(jnp.ones_like(losses))[0]

    losses, slopes = losses_and_slopes(jnp.asarray(rows[None]))
    np.testing.assert_allclose(losses[0], [np.log1p(np.e), inf, inf, np.nan, np.nan], rtol=1e-5)
    share = np.e / (1 + np.e)
    np.testing.assert_allclose(slopes[0, :2], [[0, -share, share], [-1, 1 - share, share]], rtol=1e-5, atol=1e-30)


def test_a_mask_of_ones_where_there_is_none():
    outputs, mask, embedding, bias, targets = operands((3, 2, 5, 7))
    losses = jax.jit(output_losses)
    found = losses(outputs, None, embedding, bias, targets)
    np.testing.assert_allclose(found, losses(outputs, jnp.ones_like(mask), embedding, bias, targets), rtol=1e-12)
