"""1×1 convolutions of stacked edges: against numpy, in both paths, and as a pair of bilinear functions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_derivatives

from jdarts.errors import InputError
from jdarts.ops.pointwise import pointwise, pointwise_gradient

TYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
#: Channels below, at, between and above the lanes of a vector, of which several pixels may fill one; more than registers take.
CHANNELS = [(1, 1), (3, 5), (2, 2), (4, 4), (8, 8), (16, 16), (17, 8), (36, 36), (48, 80), (64, 130)]


def arrays(*shapes, seed=0, dtype=np.float64) -> list[Any]:
    draw = np.random.default_rng(seed)
    return [draw.normal(size=shape).astype(dtype) for shape in shapes]


def operands(lanes=(), seed=0) -> Any:
    """Two stacks of other edges, pixels and channels, their matrices, and images of the results' shapes."""
    drawn = arrays((2, 1, 3, 2, 3), (1, 2, 2, 1, 2), (2, 3, 4), (1, 2, 2), (2, 1, 3, 2, 4), (1, 2, 2, 1, 2), seed=seed)
    drawn = [np.stack([(1 + lane) * np.sin(a + lane) for lane in range(*lanes)]) if lanes else a for a in drawn]
    return drawn[:2], drawn[2:4], drawn[4:]


@jax.jit
def products(cases):
    """Of each case the convolution, the same by the transposed matrices, and its gradient."""

    def of_one(x, w, y):
        transposed = pointwise([x], [jnp.swapaxes(w, 1, 2)], transposed=True)
        return pointwise([x], [w])[0], transposed[0], pointwise_gradient([x], [y])[0]

    return [of_one(*case) for case in cases]


@pytest.mark.parametrize("channels", CHANNELS)
@TYPES
def test_values_are_those_of_numpy(path, channels, dtype, tolerance):
    pixels = ((1, 1, 1), (2, 5, 3), (3, 17, 9))
    shapes = [[(3, *each, channels[0]), (3, *channels), (3, *each, channels[1])] for each in pixels]
    cases = [arrays(*each, dtype=dtype) for each in shapes]
    check = dict(rtol=tolerance, atol=30 * tolerance)
    for case, (plain, transposed, gradient) in zip(cases, products(cases), strict=True):
        x, w, y = (np.asarray(a, np.float64) for a in case)
        expected = np.einsum("ebhwc,ecd->ebhwd", x, w)
        np.testing.assert_allclose(plain, expected, **check)
        np.testing.assert_allclose(transposed, expected, **check)
        np.testing.assert_allclose(gradient, np.einsum("ebhwc,ebhwd->ecd", x, y), **check)


@pytest.mark.parametrize("channels", [2, 4, 8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_channels_have_the_bits_that_they_have_beside_others(channels, dtype):
    """Several pixels of few channels share a vector, which changes no sum."""
    x, w, more = arrays((2, 1, 5, 13, channels), (2, channels, channels), (2, channels, 1), dtype=dtype)
    wider = np.concatenate([w, more], axis=-1)
    alone, beside = jax.jit(lambda *weights: [pointwise([x], [each])[0] for each in weights])(w, wider)
    np.testing.assert_array_equal(alone, np.asarray(beside)[..., :-1])


def test_several_stacks_are_each_by_itself(path):
    xs, weights, ys = operands()

    def both(function, others):
        """Of all stacks together, and of each alone."""
        return jax.jit(
            lambda xs, others: (function(xs, others), [function([x], [other])[0] for x, other in zip(xs, others)])
        )(xs, others)

    for together, alone in (both(pointwise, weights), both(pointwise_gradient, ys)):
        for one, other in zip(together, alone, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-13)


def test_derivatives_of_both_modes_to_second_order():
    xs, weights, ys = operands()
    check_derivatives(lambda x, w: pointwise(x, w), (xs, weights), order=2, rtol=1e-6)
    transposed = [np.swapaxes(w, 1, 2) for w in weights]
    check_derivatives(lambda x, w: pointwise(x, w, transposed=True), (xs, transposed), order=2, rtol=1e-6)
    check_derivatives(lambda x, y: pointwise_gradient(x, y), (xs, ys), order=2, rtol=1e-6)


def test_a_part_of_the_operands_may_be_constant():
    xs, weights, ys = operands()
    check_derivatives(lambda w: pointwise(xs, [weights[0], w]), (weights[1],), order=1, rtol=1e-6)
    check_derivatives(lambda x: pointwise([xs[0], x], weights), (xs[1],), order=1, rtol=1e-6)
    check_derivatives(lambda x, y: pointwise_gradient([x, xs[1]], [ys[0], y]), (xs[0], ys[1]), order=1, rtol=1e-6)


@pytest.mark.parametrize("mapped", [(True, True), (True, False), (False, True)])
def test_vmap_is_a_loop(mapped):
    lanes = operands(lanes=(3,))
    fixed = operands(seed=1)
    axes = [0 if is_mapped else None for is_mapped in mapped]

    def both(function, pair):
        """Of three lanes at once, and of each alone."""
        given = [(lanes if is_mapped else fixed)[n] for is_mapped, n in zip(mapped, pair)]
        lane = [[[a[n] for a in part] if axis == 0 else part for axis, part in zip(axes, given)] for n in range(3)]
        vmapped = jax.vmap(function, in_axes=axes)
        return jax.jit(lambda given, lane: (vmapped(*given), [function(*one) for one in lane]))(given, lane)

    for found, expected in (both(pointwise, (0, 1)), both(pointwise_gradient, (0, 2))):
        for n in range(3):
            for many, one in zip(found, expected[n], strict=True):
                np.testing.assert_allclose(np.asarray(many)[n], one, rtol=1e-12, atol=1e-12)


def test_no_pixels(path):
    x, w = np.zeros((2, 0, 4, 4, 3)), np.ones((2, 3, 5))
    product, gradient = jax.jit(lambda x, w: (pointwise([x], [w])[0], pointwise_gradient([x], [x])[0]))(x, w)
    assert product.shape == (2, 0, 4, 4, 5)
    np.testing.assert_array_equal(gradient, np.zeros((2, 3, 3)))


def test_what_is_not_a_number_stays_in_its_pixel(path):
    x, w = arrays((1, 1, 5, 4, 3), (1, 3, 3))
    x[0, 0, 2, 1, 0] = np.nan
    found = np.isnan(np.asarray(jax.jit(pointwise)([x], [w])[0])).any(-1)
    np.testing.assert_array_equal(np.argwhere(found), [[0, 0, 2, 1]])


def test_operands_that_do_not_fit_are_refused():
    x, w = arrays((2, 1, 2, 2, 3), (2, 3, 4))
    with pytest.raises(InputError, match=r"need weights \[E, C, D\]; got \[2, 4, 3\]"):
        pointwise([x], [np.swapaxes(w, 1, 2)])
    with pytest.raises(InputError, match="one floating type"):
        pointwise([x], [w.astype(np.float32)])
    with pytest.raises(InputError, match="alike in all but the channels"):
        pointwise_gradient([x], [x[:, :, :1]])


def test_change_of_a_product_is_one_sum_of_two_products(path):
    xs, weights, _ = operands()
    dxs, dweights, _ = operands(seed=1)
    jaxpr = jax.make_jaxpr(lambda *changes: jax.jvp(pointwise, (xs, weights), changes)[1])(dxs, dweights)
    assert [str(equation.primitive) for equation in jaxpr.eqns] == ["pointwise", "pointwise"]

    @jax.jit
    def change_and_parts(xs, weights, dxs, dweights):
        change = jax.jvp(pointwise, (xs, weights), (dxs, dweights))[1]
        return change, pointwise(dxs, weights), pointwise(xs, dweights)

    for change, *parts in zip(*change_and_parts(xs, weights, dxs, dweights), strict=True):
        np.testing.assert_allclose(change, np.add(*parts), rtol=1e-12)
