"""Separable convolutions as one function: against the two convolutions of which they are made, to second order."""

import functools
import itertools
import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdarts.errors import InputError
from jdarts.native import gpu_rules
from jdarts.native.build import has_compiler
from jdarts.ops.candidates import separable
from jdarts.ops.depthwise import depthwise_conv
from jdarts.ops.pointwise import pointwise
from jdarts.ops.separable import separable_conv
from jdarts.xla.jaxprs import equations

STRIDES_AND_DILATIONS = list(itertools.product((1, 2), (1, 2)))


def apart(x, kernels, matrices, **options):
    y = depthwise_conv(x, kernels, **options)
    return pointwise([y.reshape(-1, *y.shape[2:])], [matrices])[0]


def operands(channels=(3, 5), size=3, image=(5, 6), sources=2, lanes=(), seed=0, dtype=np.float64) -> Any:
    """Sources of as many images, with three targets each."""
    narrow, wide = channels
    shapes = [(sources, sources, *image, narrow), (sources, 3, size, size, narrow), (3 * sources, narrow, wide)]
    draw = np.random.default_rng(seed)
    return tuple(draw.standard_normal((*lanes, *shape)).astype(dtype) for shape in shapes)


def of_all_orders(convolve, given, directions):
    """Values, gradients, and the change of gradients along a direction in both modes."""

    @jax.jit
    def gradients(*given):
        return jax.grad(lambda *o: jnp.sum(jnp.sin(convolve(*o))), (0, 1, 2))(*given)

    values, change = jax.jvp(gradients, given, directions)
    _, pull = jax.vjp(gradients, *given)
    return convolve(*given), jax.jvp(convolve, given, directions)[1], values, change, pull(directions)


def assert_same(got, expected, tolerance=1e-11):
    def check(a, b):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max()))

    jax.tree.map(check, got, expected)


def of_both_kinds(convolve, channels, stride, dilation):
    """All orders, without and with a ReLU, in one program."""
    given, directions = operands(channels), operands(channels, seed=1)
    given[0][0, 0, 0] = 0  # the kink of a ReLU

    @jax.jit
    def of_both(given, directions):
        kinds = [partial(convolve, stride=stride, dilation=dilation, rectified=kind) for kind in (False, True)]
        return [of_all_orders(kind, given, directions) for kind in kinds]

    return jax.device_get(of_both(given, directions))


#: Of the two convolutions, which are compared with plain ones elsewhere: one result for all ways to compute.
apart_of_both_kinds = functools.cache(partial(of_both_kinds, apart))


@pytest.mark.parametrize(("stride", "dilation"), STRIDES_AND_DILATIONS)
def test_equals_both_convolutions_to_second_order(separable_path, stride, dilation):
    # The fused functions for GPUs are for multiples of four.
    case = (8, 4) if separable_path == "fused" else (3, 5), stride, dilation
    assert_same(of_both_kinds(separable_conv, *case), apart_of_both_kinds(*case))


def with_gradients(convolve, stride, cotangent, given):
    """Results, and the gradients of a cotangent; of their sine where none is given."""
    y, pull = jax.vjp(partial(convolve, stride=stride, rectified=True), *given)
    return y, pull(jnp.sin(y) if cotangent is None else cotangent)


@functools.cache
def apart_with_gradients(channels, size, image, sources, stride, dilation):
    given = operands(channels, size, image, sources)
    convolve = partial(apart, dilation=dilation)
    return jax.device_get(jax.jit(partial(with_gradients, convolve, stride, None))(given))


def check_with_gradients(cases, dtype, tolerance):
    """Compares results and gradients for channels, sizes, images, sources, strides and dilations, in one program."""
    expected = [apart_with_gradients(*case) for case in cases]
    given = [operands(*case[:4], dtype=dtype) for case in cases]

    def of_all(cotangents, given):
        return [
            with_gradients(partial(separable_conv, dilation=dilation), stride, *each)
            for (*_, stride, dilation), *each in zip(cases, cotangents, given)
        ]

    found = jax.jit(of_all)([np.sin(each[0]).astype(dtype) for each in expected], given)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours[0].dtype == dtype
        assert_same(jax.tree.map(lambda a: np.asarray(a, np.float64), ours), theirs, tolerance)


@pytest.mark.parametrize("channels", [(1, 1), (4, 4), (8, 8), (16, 16), (17, 8), (8, 40)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-11), (np.float32, 1e-4)])
def test_any_channels_and_sizes(channels, dtype, tolerance):
    sizes = ((1, (1, 1), 1), (5, (9, 7), 2), (7, (3, 20), 1), (9, (4, 4), 1))
    cases = [(channels, size, image, 2, stride, 1) for size, image, stride in sizes]
    check_with_gradients(cases, dtype, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-11), (np.float32, 1e-4), (jnp.bfloat16, 2.0**-5)])
@pytest.mark.parametrize("blocks", [gpu_rules._SEPARABLE_BLOCKS, 6])
def test_fused_functions_of_any_channels_and_sizes(fused, monkeypatch, dtype, tolerance, blocks):
    """Several tiles of an image, several tiles of a block, and more numbers of a matrix than a block has threads."""
    monkeypatch.setattr(gpu_rules, "_SEPARABLE_BLOCKS", blocks)
    cases = [
        ((4, 4), 3, (1, 1), 2, 1, 1),
        ((8, 40), 5, (5, 19), 2, 2, 2),
        # A CPU computes many pixels of many channels for long: of one source.
        ((16, 16), 5, (18, 33), 1, 1, 2),
        ((64, 64), 3, (9, 12), 1, 1, 1),
        ((72, 60), 3, (6, 3), 2, 2, 1),
    ]
    check_with_gradients(cases, dtype, tolerance)


@pytest.mark.parametrize("moving", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_a_part_of_the_factors_may_be_constant(moving):
    given, directions = operands(), operands(seed=1)

    def derivatives(convolve):
        def of_moving(*some):
            factors = list(given)
            for n, a in zip(moving, some):
                factors[n] = a
            return convolve(*factors)

        chosen, ways = ([a[n] for n in moving] for a in (given, directions))
        y, pull = jax.vjp(of_moving, *chosen)
        gradients = lambda *some: jax.vjp(of_moving, *some)[1](y)  # noqa: E731
        return pull(y), jax.jvp(gradients, chosen, ways), jax.vjp(gradients, *chosen)[1](tuple(ways))

    convolve = partial(separable_conv, stride=2, rectified=True)
    assert_same(derivatives(convolve), derivatives(partial(apart, stride=2, rectified=True)))


def test_the_pull_is_linear_in_its_cotangent():
    """The transpose of the transpose is the change."""
    given, directions = operands(), operands(seed=1)
    y, pull = jax.vjp(separable_conv, *given)
    again = jax.linear_transpose(pull, y)(directions)[0]
    assert_same(again, jax.jvp(separable_conv, given, directions)[1])


def primitives(function, *arguments):
    return [equation.primitive.name for equation in jax.make_jaxpr(function)(*arguments).eqns]


def test_every_pass_is_one_call_and_keeps_nothing_between_the_convolutions():
    given, directions = operands(), operands(seed=1)
    y, pull = jax.vjp(separable_conv, *given)
    assert primitives(pull, y) == ["separable_pull"]
    assert sum(a.size for a in jax.tree.leaves(pull)) <= sum(a.size for a in given)
    x, *weights = given
    assert primitives(jax.vjp(lambda x: separable_conv(x, *weights), x)[1], y) == ["separable_back"]
    assert primitives(jax.linearize(separable_conv, *given)[1], *directions) == ["separable"]

    def of_x(*given):
        return jax.vjp(separable_conv, *given)[1](y)[0]

    pushed = jax.linearize(of_x, *given)[1]
    assert primitives(pushed, *directions) == ["separable_back"]


@pytest.mark.parametrize("axes", [(0, None, None), (3, None, 0), (None, 2, 1), (0, 0, 0)])
def test_vmap_equals_a_loop(axes):
    lanes, fixed = operands(lanes=(3,)), operands(seed=1)
    each = [
        [many[lane] if axis is not None else one for many, one, axis in zip(lanes, fixed, axes)] for lane in range(3)
    ]
    mapped = [np.moveaxis(many, 0, a) if a is not None else one for many, one, a in zip(lanes, fixed, axes)]

    def run(*given):
        return of_all_orders(partial(separable_conv, stride=2, rectified=True), given, tuple(map(jnp.cos, given)))

    got = jax.jit(jax.vmap(run, axes))(*mapped)
    one = jax.jit(run)
    assert_same(got, jax.tree.map(lambda *leaves: np.stack(leaves), *(one(*given) for given in each)))


@pytest.mark.parametrize("image_path", ["XLA"], indirect=True)
def test_xla_computes_nothing_twice(image_path):
    """Where there is no native function, what lies between the convolutions is there once: XLA merges the second time."""
    given = operands()

    def convolutions(convolve):
        gradients = jax.jit(jax.grad(lambda *o: jnp.sum(jnp.sin(convolve(*o))), (0, 1, 2)))
        return (gradients.lower(*given).compile().as_text() or "").count(" convolution(")

    assert 0 < convolutions(separable_conv) == convolutions(apart)


def test_other_backends_get_xla_operations():
    traced = jax.jit(separable_conv).trace(*operands())
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert "stablehlo.convolution" in text and "stablehlo.dot_general" in text
    assert "jdarts" not in text
    # The first convolution has a native function for GPUs, the second is a product of matrices.
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "@jdarts_gpu_depthwise_forward" in text and "stablehlo.dot_general" in text


def test_fused_functions_are_for_gpus_and_sizes_that_they_have(monkeypatch):
    def calls(*sizes, platform="cuda", dtype=np.float64):
        x, *weights = operands(*sizes, dtype=dtype)

        def with_all(x, *weights):
            of_x = jax.vjp(lambda x: separable_conv(x, *weights), x)[1]
            return with_gradients(separable_conv, 1, None, (x, *weights)), of_x(separable_conv(x, *weights))

        text = jax.jit(with_all).trace(x, *weights).lower(lowering_platforms=(platform,)).as_text()
        return set(re.findall(r"@jdarts_gpu_(separable_back|separable_pull|separable|depthwise)_", text))

    fitting = ((4, 8), 3)
    monkeypatch.setenv("JDARTS_SEPARABLE", "")
    assert calls(*fitting) == calls(*fitting, dtype=jnp.bfloat16) == gpu_rules.SEPARABLE
    assert calls(*fitting, platform="tpu") == set()
    for sizes in ((6, 8), 3), ((4, 6), 3), ((4, 8), 7), ((1024, 4), 3):
        assert calls(*sizes) == {"depthwise"}
    monkeypatch.setenv("JDARTS_SEPARABLE", "parts")
    assert calls(*fitting) == {"depthwise"}
    monkeypatch.setenv("JDARTS_SEPARABLE", "whole")
    with pytest.raises(InputError, match="JDARTS_SEPARABLE is whole; give fused or parts"):
        calls(*fitting)


@pytest.mark.parametrize("itemsize", [np.float32, np.float64])
def test_tiles_of_the_fused_gradient_fit_into_a_block(itemsize):
    values = 3 * gpu_rules._VALUES_BYTES // np.dtype(itemsize).itemsize
    for height, width, channels, reach, stride in itertools.product(
        (1, 7, 32, 224), (1, 8, 33), (4, 64, 144), (2, 8), (1, 2)
    ):
        tile = gpu_rules._tile(height, width, channels, reach, stride, itemsize)
        if tile is None:
            least = [min(-(-whole // stride), (n - 1 + reach) // stride + 1) for n, whole in ((4, height), (1, width))]
            assert least[0] * least[1] * channels > values
            continue
        rows, columns = tile
        assert rows % 4 == 0 and rows <= height + 3 and columns <= width
        assert rows // 4 * columns * channels // 4 <= 512
        reached = [
            min(-(-whole // stride), (n - 1 + reach) // stride + 1) for n, whole in ((rows, height), (columns, width))
        ]
        assert reached[0] * reached[1] * channels <= values


def test_no_images(path):
    x, kernels, matrices = operands()
    y, pull = jax.vjp(separable_conv, x[:, :0], kernels, matrices)
    assert y.shape == (6, 0, 5, 6, 5)
    for gradient, a in zip(pull(y), (x[:, :0], kernels, matrices)):
        np.testing.assert_array_equal(gradient, np.zeros(a.shape))


def test_rectified_lets_what_is_no_number_pass(image_path):
    x, kernels, matrices = operands()
    assert np.isnan(separable_conv(jnp.full_like(x, np.nan), kernels, matrices, rectified=True)).all()


def test_refuses_what_does_not_fit():
    x, kernels, matrices = operands()
    with pytest.raises(InputError, match=r"need matrices \[S·T, C, D\] = \[6, 3, D\]; got \[5, 3, 5\]"):
        separable_conv(x, kernels, matrices[:5])
    with pytest.raises(InputError, match="channels"):
        separable_conv(x[..., :2], kernels, matrices)
    with pytest.raises(InputError, match="same floating type"):
        separable_conv(x, kernels.astype(np.float32), matrices)
    with pytest.raises(InputError, match="one floating type"):
        separable_conv(x, kernels, matrices.astype(np.float32))
    with pytest.raises(InputError, match="stride=3"):
        separable_conv(x, kernels, matrices, stride=3)


@pytest.mark.parametrize(
    ("setting", "dtype", "convolutions"),
    [
        (None, np.float32, (0, 1)),
        (("JDARTS_NATIVE", "0"), np.float32, (1, 0)),
        (("CXX", "no-such-compiler"), np.float32, (1, 0)),
        (None, np.float16, (1, 0)),
    ],
)
def test_without_native_functions_an_operation_has_two_convolutions_and_computes_the_first_once(
    monkeypatch, setting, dtype, convolutions
):
    """As one function, the backward pass would compute it again."""
    monkeypatch.delenv("JDARTS_NATIVE", raising=False)
    if setting is not None:
        monkeypatch.setenv(*setting)
    elif dtype == np.float32 and not has_compiler():
        pytest.skip("there is no compiler here")
    x, kernels, matrices = operands(dtype=dtype)
    given = x, kernels.reshape(6, *kernels.shape[2:]), matrices
    gradients = jax.grad(lambda *o: jnp.sum(separable(*o)), (0, 1, 2))
    names = [equation.primitive.name for equation in equations(jax.make_jaxpr(gradients)(*given))]
    assert (names.count("depthwise_conv"), names.count("separable")) == convolutions
