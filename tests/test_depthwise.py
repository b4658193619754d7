import functools
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_derivatives
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jdarts.errors import InputError
from jdarts.ops.depthwise import depthwise_conv

STRIDES_AND_DILATIONS = list(itertools.product((1, 2), (1, 2)))


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)


def plain_loops(x, kernels, ct, stride, dilation):
    """y, and the gradients of Σ y·ct in x and in kernels, tap by tap."""
    height, width, size = x.shape[2], x.shape[3], kernels.shape[2]
    pad = dilation * (size - 1) // 2
    rows, columns = -(-height // stride), -(-width // stride)
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad), (0, 0)))
    y, x_bar, kernels_bar = np.zeros_like(ct), np.zeros_like(padded), np.zeros_like(kernels)
    for i, j in itertools.product(range(size), range(size)):
        window = (
            slice(None),
            slice(None),
            slice(i * dilation, i * dilation + stride * (rows - 1) + 1, stride),
            slice(j * dilation, j * dilation + stride * (columns - 1) + 1, stride),
        )
        tap = kernels[:, :, None, i : i + 1, j : j + 1]
        y += tap * padded[window][:, None]
        x_bar[window] += (tap * ct).sum(1)
        kernels_bar[:, :, i, j] = (padded[window][:, None] * ct).sum((2, 3, 4))
    return y, x_bar[:, :, pad : pad + height, pad : pad + width], kernels_bar


def values_and_gradients(cases):
    """The same for several `(x, kernels, ct, stride, dilation)`, in one program."""
    strides_and_dilations = [case[3:] for case in cases]

    def run(operands):
        found = []
        for (x, kernels, ct), (stride, dilation) in zip(operands, strides_and_dilations):
            y, transpose = jax.vjp(partial(depthwise_conv, stride=stride, dilation=dilation), x, kernels)
            found.append((y, *transpose(ct)))
        return found

    return jax.jit(run)([case[:3] for case in cases])


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_agrees_with_plain_loops(image_path, size):
    images = itertools.cycle([(6, 5), (1, 1), (9, 4), (7, 8), (2, 3)])
    channels = itertools.cycle([3, 16, 1, 17])
    cases = []
    for stride, dilation in STRIDES_AND_DILATIONS:
        for _ in range(2 if image_path == "native" else 1):
            height, width = next(images)
            c = next(channels)
            x, kernels = normal(2, 2, height, width, c), normal(2, 3, size, size, c)
            ct = normal(2, 3, 2, -(-height // stride), -(-width // stride), c)
            cases.append((x, kernels, ct, stride, dilation))
    for case, found in zip(cases, values_and_gradients(cases), strict=True):
        for ours, expected in zip(found, plain_loops(*case), strict=True):
            message = f"images {case[0].shape}, stride {case[3]}, dilation {case[4]}"
            np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12, err_msg=message)


def test_float32():
    cases = []
    for (stride, dilation), channels in itertools.product(STRIDES_AND_DILATIONS, (1, 3, 16, 17)):
        x, kernels = normal(1, 2, 9, 7, channels), normal(1, 3, 5, 5, channels)
        ct = normal(1, 3, 2, -(-9 // stride), -(-7 // stride), channels)
        cases.append((x, kernels, ct, stride, dilation))
    single = [(*(a.astype(np.float32) for a in case[:3]), *case[3:]) for case in cases]
    for case, found in zip(cases, values_and_gradients(single), strict=True):
        for ours, expected in zip(found, plain_loops(*case), strict=True):
            assert ours.dtype == np.float32
            message = f"{case[0].shape[-1]} channels, stride {case[3]}, dilation {case[4]}"
            atol = 1e-5 * np.abs(expected).max()
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=atol, err_msg=message)


def of_all_orders(convolve, stride, dilation):
    """Values, gradients and the change of gradients along a direction, in both modes; one program for few and many channels."""

    def everything(operands, directions):
        @jax.jit
        def gradients(*operands):
            return jax.grad(lambda *o: jnp.sum(jnp.sin(convolve(*o, stride=stride, dilation=dilation))), (0, 1))(
                *operands
            )

        values, change = jax.jvp(gradients, operands, directions)
        _, pull = jax.vjp(gradients, *operands)
        return convolve(*operands, stride=stride, dilation=dilation), values, change, pull(directions)

    given = []
    for channels in (3, 16):
        x, kernels = normal(2, 2, 5, 6, channels), normal(2, 3, 3, 3, channels)
        x[0, 0, 0] = 0  # at the kink the derivative is 0, as jax.nn.relu's
        directions = normal(2, 2, 5, 6, channels, seed=1), normal(2, 3, 3, 3, channels, seed=1)
        given.append(((x, kernels), directions))
    return jax.device_get(jax.jit(lambda given: [everything(*each) for each in given])(given))


def convolution_of_the_relu(x, kernels, **options):
    return depthwise_conv(jax.nn.relu(x), kernels, **options)


#: Of the convolution of the ReLU, which is compared with plain loops above: one result for all ways to compute.
of_the_relu = functools.cache(partial(of_all_orders, convolution_of_the_relu))


@pytest.mark.parametrize(("stride", "dilation"), STRIDES_AND_DILATIONS)
def test_rectified_is_the_convolution_of_the_relu(image_path, stride, dilation):
    found = of_all_orders(partial(depthwise_conv, rectified=True), stride, dilation)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-11), found, of_the_relu(stride, dilation))


def test_rectified_lets_what_is_no_number_pass(image_path):
    x = np.full((1, 1, 3, 3, 1), np.nan)
    assert np.isnan(depthwise_conv(x, normal(1, 1, 3, 3, 1), rectified=True)).all()


def test_a_change_is_one_call():
    """Both terms of the product rule are added up inside one function, forward and backward."""
    x, kernels = normal(1, 2, 4, 4, 2), normal(1, 2, 3, 3, 2)

    def change(function):
        return jax.make_jaxpr(lambda *t: jax.jvp(function, (x, kernels), t))(x, kernels).jaxpr

    def pulled(x, kernels):
        y, pull = jax.vjp(lambda x: depthwise_conv(x, kernels, rectified=True), x)
        return pull(y)

    def calls(jaxpr, name):
        return sum(equation.primitive.name == name for equation in jaxpr.eqns)

    assert calls(change(partial(depthwise_conv, rectified=True)), "depthwise_conv") == 2
    assert calls(change(pulled), "depthwise_conv_input_gradient") == 2


def test_other_floating_types_are_computed():
    x, kernels = normal(1, 1, 4, 4, 2), normal(1, 1, 3, 3, 2)
    y = depthwise_conv(x.astype(jnp.bfloat16), kernels.astype(jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(np.float64), depthwise_conv(x, kernels), atol=0.1)


def test_padding_is_not_same_padding():
    """At stride 2 the first output is centred on the first pixel, not on the second."""
    x = np.arange(16.0).reshape(1, 1, 4, 4, 1)
    centre = np.zeros((1, 1, 3, 3, 1))
    centre[0, 0, 1, 1] = 1.0
    y = depthwise_conv(x, centre, stride=2)
    np.testing.assert_array_equal(y[0, 0, 0, :, :, 0], x[0, 0, ::2, ::2, 0])


@pytest.mark.parametrize(
    ("image_path", "stride", "dilation"),
    [("native", 1, 1), ("native", 1, 2), ("native", 2, 1), ("native", 2, 2), ("XLA", 2, 1)],
    indirect=["image_path"],
)
def test_second_derivatives(image_path, stride, dilation):
    convolve = jax.jit(partial(depthwise_conv, stride=stride, dilation=dilation))
    check_derivatives(convolve, (normal(2, 1, 5, 4, 3), normal(2, 2, 3, 3, 3)), order=2)


@pytest.mark.parametrize("stride", [1, 2])
def test_hessian_vector_products_agree_in_both_modes(stride):
    x, kernels = normal(1, 2, 5, 5, 3), normal(1, 2, 3, 3, 3)
    v = (normal(1, 2, 5, 5, 3, seed=1), normal(1, 2, 3, 3, 3, seed=1))

    def loss(operands):
        return jnp.sum(jnp.sin(depthwise_conv(*operands, stride=stride, dilation=1)))

    gradient = jax.grad(loss)

    def along(operands):
        return sum(jnp.vdot(g, d) for g, d in zip(gradient(operands), v))

    forward_over_reverse = jax.jit(lambda o: jax.jvp(gradient, (o,), (v,))[1])((x, kernels))
    reverse_over_reverse = jax.jit(jax.grad(along))((x, kernels))
    for a, b in zip(forward_over_reverse, reverse_over_reverse):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("axes", [(0, None), (3, None), (None, 0), (None, 2), (0, 0), (2, 5)])
def test_vmap_equals_a_loop(axes, rectified):
    """Values, gradients and second derivatives: every primitive is batched in every pattern that occurs."""
    x, kernels = normal(3, 2, 2, 4, 3, 2), normal(3, 2, 2, 3, 3, 2)

    def along_gradient(x, kernels):
        def loss(x, kernels):
            return jnp.sum(jnp.sin(depthwise_conv(x, kernels, stride=2, rectified=rectified)))

        gradient = jax.grad(loss, (0, 1))
        return loss(x, kernels), jax.jvp(gradient, (x, kernels), (jnp.cos(x), jnp.cos(kernels)))

    operands = [a if d is not None else a[0] for a, d in zip((x, kernels), axes)]
    mapped = [np.moveaxis(a, 0, d) if d is not None else a for a, d in zip(operands, axes)]
    got = jax.jit(jax.vmap(along_gradient, axes))(*mapped)
    one = jax.jit(along_gradient)
    each = [one(*(a[n] if d is not None else a for a, d in zip(operands, axes))) for n in range(3)]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10), got, expected)


@pytest.mark.parametrize("batched", ["cotangent", "x"])
def test_vmapped_gradients_with_one_operand_shared(batched):
    """The gradients are batched also where the forward pass is not."""
    x, kernels, ct = normal(3, 2, 2, 4, 4, 2), normal(2, 3, 3, 3, 2), normal(3, 2, 3, 2, 4, 4, 2)

    def gradients(x, ct):
        return jax.vjp(depthwise_conv, x, kernels)[1](ct)

    axes, x_each, ct_each = ((None, 0), [x[0]] * 3, ct) if batched == "cotangent" else ((0, None), x, [ct[0]] * 3)
    got = jax.jit(jax.vmap(gradients, axes))(x[0] if axes[0] is None else x, ct[0] if axes[1] is None else ct)
    one = jax.jit(gradients)
    expected = [one(a, b) for a, b in zip(x_each, ct_each)]
    for a, *b in zip(got, *expected):
        np.testing.assert_allclose(a, np.stack(b), atol=1e-12)


@pytest.mark.usefixtures("without_native")
@pytest.mark.parametrize("targets", [1, 3])
def test_without_native_functions_a_tap_is_four_operations_and_a_call_has_one_term(targets):
    """A paper-size step has tens of thousands of taps, and XLA's passes take time for each operation."""
    arguments = normal(1, 2, 4, 4, 3), normal(1, targets, 5, 5, 3)

    def tangent(x, kernels):
        return jax.jvp(depthwise_conv, (x, kernels), (2 * x, 3 * kernels))[1]

    one, two = (jax.jit(function).lower(*arguments).as_text() for function in (depthwise_conv, tangent))
    assert 25 * 3 < one.count(" = stablehlo.") < 25 * 4 + 10
    # Both terms of the tangent are calls of the one function.
    assert two.count("stablehlo.multiply") == one.count("stablehlo.multiply") + 2


@pytest.mark.usefixtures("without_native")
def test_without_native_functions_gpus_get_gathers_and_tpus_grouped_convolutions():
    def gradients(x, kernels):
        return jax.grad(lambda *o: jnp.sum(depthwise_conv(*o) ** 2), (0, 1))(x, kernels)

    arguments = normal(1, 2, 4, 4, 3), normal(1, 1, 3, 3, 3)
    for platform, convolutions in (("cuda", 0), ("tpu", 3)):
        text = jax.jit(gradients).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == convolutions
        assert ("stablehlo.gather" in text) == (platform == "cuda")
        assert "jdarts" not in text


def test_several_devices():
    if jax.device_count() < 2:
        pytest.skip("needs two devices; jax was started with one")

    def gradients(x, kernels):
        return jax.grad(lambda *o: jnp.sum(jnp.sin(depthwise_conv(*o, stride=2))), (0, 1))(x, kernels)

    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    x, kernels = normal(1, 4, 5, 4, 3), normal(1, 2, 3, 3, 3)
    expected = jax.jit(gradients)(x, kernels)
    specs = PartitionSpec(None, "data"), PartitionSpec()
    got = jax.jit(jax.shard_map(gradients, mesh=mesh, in_specs=specs, out_specs=specs))(x, kernels)
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a, b, atol=1e-12)  # the kernels' gradient is summed over the devices
    shards = [jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip((x, kernels), specs)]
    got = jax.jit(gradients)(*shards)
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a, b, atol=1e-12)
    got = jax.device_get(jax.pmap(gradients, in_axes=(1, None), out_axes=(1, 0))(x.reshape(1, 2, 2, 5, 4, 3), kernels))
    np.testing.assert_allclose(got[0].reshape(x.shape), expected[0], atol=1e-12)
    np.testing.assert_allclose(got[1].sum(0), expected[1], atol=1e-12)


@pytest.mark.parametrize(
    ("x", "kernels", "options", "message"),
    [
        ((2, 4, 4, 3), (1, 1, 3, 3, 3), {}, "x must be"),
        ((1, 2, 4, 4, 3), (1, 1, 2, 2, 3), {}, "odd k"),
        ((1, 2, 4, 4, 3), (1, 1, 3, 5, 3), {}, "odd k"),
        ((1, 2, 4, 4, 3), (1, 1, 3, 3, 4), {}, "channels"),
        ((2, 2, 4, 4, 3), (1, 1, 3, 3, 3), {}, "sources"),
        ((1, 2, 0, 4, 3), (1, 1, 3, 3, 3), {}, "one pixel"),
        ((1, 2, 4, 4, 3), (1, 1, 3, 3, 3), {"stride": 3}, "stride=3"),
        ((1, 2, 4, 4, 3), (1, 1, 3, 3, 3), {"dilation": 0}, "dilation=0"),
    ],
)
def test_refuses_what_does_not_fit(x, kernels, options, message):
    with pytest.raises(InputError, match=message):
        jax.eval_shape(partial(depthwise_conv, **options), np.zeros(x), np.zeros(kernels))


def test_refuses_mixed_and_integer_types():
    x, kernels = np.ones((1, 1, 3, 3, 1)), np.ones((1, 1, 3, 3, 1))
    with pytest.raises(InputError, match="float64 and float32"):
        depthwise_conv(x, kernels.astype(np.float32))
    with pytest.raises(InputError, match="int32"):
        depthwise_conv(x.astype(np.int32), kernels.astype(np.int32))
