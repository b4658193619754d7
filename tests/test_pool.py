import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_derivatives
from jax.sharding import Mesh, PartitionSpec

from jdarts.errors import InputError
from jdarts.ops import pool
from jdarts.ops.pool import avg_pool_3x3, max_pool_2x2, max_pool_3x3

#: Rows, columns and channels: single pixels and rows, odd sizes, channels that do and do not fill a vector.
SIZES = [(1, 1, 3), (2, 1, 1), (5, 4, 3), (4, 7, 16), (3, 3, 17)]
STRIDES = pytest.mark.parametrize("stride", [1, 2])
POOLS = pytest.mark.parametrize("function", [max_pool_3x3, avg_pool_3x3])


def images(height, width, channels, dtype: type[np.floating] = np.float64, seed=0):
    return np.random.default_rng(seed).normal(size=(2, 2, height, width, channels)).astype(dtype)


def windows(x, stride):
    """For each output pixel, its pixels inside the image in row order: their window positions, and where they are."""
    height, width = x.shape[2:4]
    for r, h in enumerate(range(0, height, stride)):
        for c, w in enumerate(range(0, width, stride)):
            pixels = [
                (3 * (i + 1) + j + 1, h + i, w + j)
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
                if 0 <= h + i < height and 0 <= w + j < width
            ]
            yield (r, c), pixels


def pooled_shape(x, stride):
    return (*x.shape[:2], -(-x.shape[2] // stride), -(-x.shape[3] // stride), x.shape[4])


def plain_max(x, stride):
    """The maxima, the position of each, and which pixel of x it is; a NaN beats all, else the first maximum."""
    y, index = np.empty(pooled_shape(x, stride), x.dtype), np.empty(pooled_shape(x, stride), np.uint8)
    rows, columns = np.empty(y.shape, int), np.empty(y.shape, int)
    for (r, c), pixels in windows(x, stride):
        # argmax returns the first of equals, or the NaN if there is one.
        best = np.argmax([x[:, :, h, w] for _, h, w in pixels], axis=0)
        position, h, w = (np.array(part)[best] for part in zip(*pixels))
        index[:, :, r, c], rows[:, :, r, c], columns[:, :, r, c] = position, h, w
    s, b, _, _, channel = np.indices(y.shape)
    where = (s, b, rows, columns, channel)
    y[...] = x[where]
    return y, index, where


def awkward(x):
    """Ties, a constant image, at most one NaN a window, and a corner and a whole image of −∞."""
    x = np.round(x)
    x[0, 0, :, :, 0] = 1.0
    x[0, 1, :2, :2] = -np.inf
    x[1, 0] = -np.inf
    x[1, 1, ::3, ::3, -1] = np.nan
    return x


@functools.partial(jax.jit, static_argnames="stride")
def maxima(given, *, stride):
    """Of several images: the maxima, their places, and what moves along them in both directions."""
    three = functools.partial(max_pool_3x3, stride=stride)

    def found(x, tangent, cotangent):
        (y, index), (_, of_y) = pool.max_pool_p.bind(x, stride=stride), jax.jvp(three, (x,), (tangent,))
        return y, index, of_y, jax.vjp(three, x)[1](cotangent)[0]

    return [found(*each) for each in given]


def assert_maxima(many, stride):
    """Values, places, and what moves along the maxima in both directions are those of plain loops, in one program."""
    given: list[Any] = []
    for x in many:
        draw = np.random.default_rng(1)
        shapes = x.shape, pooled_shape(x, stride)
        given.append((x, *(draw.normal(size=shape).astype(x.dtype) for shape in shapes)))
    for each, found in zip(given, jax.device_get(maxima(given, stride=stride)), strict=True):
        assert_these_maxima(each, found, stride)


def assert_these_maxima(given, found, stride):
    x, tangent, cotangent = given
    expected, position, where = plain_max(x, stride)
    y, index, of_y, of_x = found
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(index, position)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(of_y, np.asarray(tangent)[where])
    scattered = np.zeros(x.shape)
    np.add.at(scattered, where, np.asarray(cotangent, np.float64))
    digits = float(jnp.finfo(x.dtype).eps)
    np.testing.assert_allclose(np.asarray(of_x, np.float64), scattered, rtol=0, atol=30 * digits)


@STRIDES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_maxima_and_what_moves_along_them_are_those_of_plain_loops(image_path, stride, dtype):
    assert_maxima([images(*size, dtype) for size in SIZES], stride)
    assert_maxima([awkward(images(*size, dtype)) for size in SIZES], stride)


@STRIDES
def test_images_of_any_width_and_height(image_path, stride):
    assert_maxima([images(*size, np.float32) for size in ((1, 258, 1), (1, 1030, 1), (1030, 1, 1))], stride)


@STRIDES
def test_numbers_of_16_bits(stride):
    """They have no native functions."""
    assert_maxima([images(*size).astype(jnp.bfloat16) for size in ((5, 4, 3), (2, 515, 1))], stride)


@functools.partial(jax.jit, static_argnames="stride")
def means(given, *, stride):
    """Of several images and cotangents: the means and the transpose's values, in all the ways that lead to them."""
    three = functools.partial(avg_pool_3x3, stride=stride)

    def found(x, cotangent):
        y, transposed = jax.vjp(three, x)
        (back,), twice_transposed = jax.vjp(transposed, cotangent)
        of_y = jax.jvp(three, (x,), (x,))[1]
        ((of_back,),) = jax.jvp(transposed, (cotangent,), (cotangent,))[1:]
        return [y, of_y, twice_transposed((x,))[0]], [back, of_back]

    return [found(*each) for each in given]


def assert_means(many, stride, tolerance):
    """The means and their transpose are those of plain loops, in one program."""
    given: list[Any] = []
    for x in many:
        draw = np.random.default_rng(1)
        given.append((x, draw.normal(size=pooled_shape(x, stride)).astype(x.dtype)))
    for each, found in zip(given, jax.device_get(means(given, stride=stride)), strict=True):
        assert_these_means(each, found, stride, tolerance)


def assert_these_means(given, found, stride, tolerance):
    x, cotangent = given
    y, back = np.empty(pooled_shape(x, stride)), np.zeros(x.shape)
    wide, of_windows = np.asarray(x, np.float64), np.asarray(cotangent, np.float64)
    for (r, c), pixels in windows(x, stride):
        y[:, :, r, c] = np.mean([wide[:, :, h, w] for _, h, w in pixels], axis=0)
        for _, h, w in pixels:
            back[:, :, h, w] += of_windows[:, :, r, c] / len(pixels)
    for ways, expected in zip(found, (y, back), strict=True):
        for values in ways:
            assert values.dtype == x.dtype
            np.testing.assert_allclose(np.asarray(values, np.float64), expected, rtol=tolerance, atol=tolerance)


@STRIDES
def test_means_and_what_moves_along_them_are_those_of_plain_loops(image_path, stride):
    assert_means([images(*size) for size in SIZES], stride, 1e-13)
    # Functions for GPUs have numbers of 16 bits, those for CPUs have not.
    if image_path == "GPU":
        assert_means([images(*size).astype(jnp.bfloat16) for size in SIZES], stride, 2.0**-8)


@STRIDES
def test_means_of_numbers_of_16_bits(stride):
    """They have no native functions."""
    assert_means([images(5, 4, 3).astype(jnp.bfloat16)], stride, 2.0**-5)


@POOLS
@STRIDES
def test_derivatives_of_both_modes_to_second_order(function, stride):
    x = jnp.asarray(images(4, 5, 2)[:, :1])
    # Maxima are linear near x: their square has second derivatives. The step stays below the gaps between values.
    check_derivatives(lambda x: function(x, stride=stride) ** 2, (x,), order=2, step=1e-5, rtol=1e-5, atol=1e-5)


@POOLS
@pytest.mark.parametrize("axis", [0, 2, 5])
def test_vmap_is_a_loop(function, axis):
    lanes = np.stack([images(4, 5, 2, seed=n) for n in range(3)])
    x = jnp.asarray(np.moveaxis(lanes, 0, axis))

    def value_and_gradients(x):
        y, pull_back = jax.vjp(functools.partial(function, stride=2), x)
        return y, pull_back(jnp.sin(y))[0], jax.jvp(functools.partial(function, stride=2), (x,), (jnp.cos(x),))[1]

    together = jax.vmap(value_and_gradients, in_axes=axis)(x)
    for n, lane in enumerate(lanes):
        for many, one in zip(together, value_and_gradients(jnp.asarray(lane))):
            np.testing.assert_allclose(many[n], one, rtol=1e-13, atol=1e-14)


def test_many_cotangents_along_one_maximum():
    x = jnp.asarray(images(4, 5, 2))
    y, pull_back = jax.vjp(max_pool_3x3, x)
    cotangents = jnp.stack([jnp.sin(y), jnp.cos(y)])
    (together,) = jax.vmap(pull_back)(cotangents)
    for n in (0, 1):
        np.testing.assert_allclose(together[n], pull_back(cotangents[n])[0], rtol=1e-13)


def test_operands_that_do_not_fit_are_refused():
    x = jnp.asarray(images(4, 4, 2))
    for function in (max_pool_3x3, avg_pool_3x3):
        with pytest.raises(InputError, match="stride 3; give 1 or 2"):
            function(x, stride=3)
        with pytest.raises(InputError, match=r"x must be \[S, B, H, W, C\]"):
            function(x[0])
        with pytest.raises(InputError, match="floating type; got int32"):
            function(x.astype(np.int32))


def test_maxima_of_squares_and_their_first_places_get_the_gradient():
    draw = np.random.default_rng(0)
    # Few values, so that many squares have equal maxima.
    x = draw.integers(3, size=(2, 2, 6, 4, 3)).astype(np.float64)
    cotangent = draw.normal(size=(2, 2, 3, 2, 3))
    y, pull = jax.vjp(max_pool_2x2, jnp.asarray(x))
    expected, gradient = np.zeros_like(cotangent), np.zeros_like(x)
    for s, b, h, w, c in np.ndindex(*cotangent.shape):
        square = x[s, b, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2, c]
        row, column = np.unravel_index(np.argmax(square), (2, 2))
        expected[s, b, h, w, c] = square[row, column]
        gradient[s, b, 2 * h + row, 2 * w + column, c] = cotangent[s, b, h, w, c]
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(pull(jnp.asarray(cotangent))[0], gradient)
    assert jnp.isnan(max_pool_2x2(jnp.asarray(x).at[0, 0, 1, 1, 0].set(jnp.nan))[0, 0, 0, 0, 0])


def test_derivatives_on_several_devices(path):
    """Each device has images of its own."""
    if jax.device_count() < 2:
        pytest.skip("needs two devices; jax was started with one")
    x, of_batch = images(4, 3, 2), PartitionSpec(None, "devices")

    def derivatives(x):
        gradient = jax.grad(lambda x: jnp.sum(jnp.sin(max_pool_3x3(x, stride=2))))
        return jax.jvp(gradient, (x,), (jnp.cos(x),))

    mesh = Mesh(np.array(jax.devices()[:2]), ("devices",))
    on_each = jax.shard_map(derivatives, mesh=mesh, in_specs=of_batch, out_specs=of_batch)
    found, expected = jax.jit(lambda x: (on_each(x), derivatives(x)))(x)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12), found, expected)
