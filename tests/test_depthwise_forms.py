"""The forms of depthwise convolutions in operations of JAX, and convolutions of several kinds of kernels at once."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_derivatives
from jax.sharding import Mesh, PartitionSpec

from jdarts.errors import InputError
from jdarts.ops.depthwise import depthwise_conv, joint, pallas_tpu, row_convolutions, shifted_products
from jdarts.ops.depthwise.choice import FORMS, pallas_form
from jdarts.ops.depthwise.kinds import Kind, runs, table_of_taps

MIXED = (Kind(3, 1), Kind(3, 2), Kind(5, 2))
#: Kinds, whether they share their images, and the stride.
CASES = list(itertools.product((MIXED, (Kind(5, 1), Kind(3, 1)), (Kind(1, 2),)), (True, False), (1, 2)))
#: Two sizes and two dilations in few taps.
FEW = (Kind(3, 2), Kind(1, 1))
#: Pallas kernels are interpreted, which takes long to compile: these cases have all there is in few kernels.
PALLAS_CASES = [(FEW, False, 2), ((Kind(3, 1),), True, 1)]
#: What derivatives depend on; that a form is right for any taps is what its values show.
DERIVED_CASES = [
    *itertools.product((FEW,), (True, False), (1, 2)),
    *(((Kind(3, 1), Kind(1, 1)), True, s) for s in (1, 2)),
]
SOURCES, TARGETS, BATCH, HEIGHT, WIDTH, CHANNELS = 2, 3, 2, 5, 4, 3


def operands(kinds, shared, stride, dtype: type = np.float64):
    """Images, taps, and images like the result."""
    draw = np.random.default_rng(len(kinds) + 2 * shared + 4 * stride)
    shapes = (
        (1 if shared else len(kinds), SOURCES, BATCH, HEIGHT, WIDTH, CHANNELS),
        (sum(kind.taps for kind in kinds), SOURCES, TARGETS, CHANNELS),
        (len(kinds), SOURCES, TARGETS, BATCH, -(-HEIGHT // stride), -(-WIDTH // stride), CHANNELS),
    )
    return [jnp.asarray(draw.normal(size=shape).astype(dtype)) for shape in shapes]


def plain(x, taps, y, kinds, stride):
    """F(x, taps), X(y, taps) and K(x, y), tap by tap."""
    x, taps, y = map(np.asarray, (x, taps, y))
    out, of_x, of_taps = np.zeros_like(y), np.zeros_like(x), np.zeros_like(taps)
    number = 0
    for m, kind in enumerate(kinds):
        g = m if len(x) > 1 else 0
        for down, right in kind.offsets():
            for row, column in np.ndindex(y.shape[4:6]):
                i, j = row * stride + down, column * stride + right
                if 0 <= i < HEIGHT and 0 <= j < WIDTH:
                    pixel, tap = x[g, :, None, :, i, j], taps[number][:, :, None]
                    out[m, :, :, :, row, column] += pixel * tap
                    of_x[g, :, :, i, j] += (y[m, :, :, :, row, column] * tap).sum(1)
                    of_taps[number] += (pixel * y[m, :, :, :, row, column]).sum(2)
            number += 1
    return out, of_x, of_taps


def three_functions(functions, x, taps, y, *, kinds, shared, stride):
    """F(x, taps), X(y, taps) and K(x, y) of a form."""
    geometry = {"kinds": kinds, "stride": stride}
    of_images = {"height": HEIGHT, "width": WIDTH, "shared": shared or len(kinds) == 1}
    return (
        functions.forward([(x, taps)], **geometry),
        functions.input_gradient([(y, taps)], **geometry, **of_images),
        functions.kernel_gradient([(x, y)], **geometry),
    )


def assert_defined(functions, cases):
    """The three functions of a form are the definition in all cases, which are one program."""
    given = [operands(*case) for case in cases]

    @jax.jit
    def all_cases(given):
        return [
            three_functions(functions, x, taps, y, kinds=kinds, shared=shared, stride=stride)
            for (x, taps, y), (kinds, shared, stride) in zip(given, cases)
        ]

    for found, (x, taps, y), (kinds, shared, stride) in zip(all_cases(given), given, cases, strict=True):
        for name, a, b in zip("FXK", found, plain(x, taps, y, kinds, stride), strict=True):
            message = f"{name} of {kinds}, {shared=}, {stride=}"
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12, err_msg=message)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_definition(form):
    assert_defined(FORMS[form], CASES)


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_pallas_kernels_are_the_definition(platform):
    assert_defined(pallas_form(platform, interpret=True), PALLAS_CASES)


@pytest.mark.parametrize("width", [5, 71], ids=["one block", "blocks"])
def test_kernel_gradients_along_rows_are_sums_of_shifted_products(width):
    draw = np.random.default_rng(width)
    cases = list(itertools.product((MIXED, (Kind(5, 1),)), (1, 2)))
    given = []
    for kinds, stride in cases:
        sizes = [(HEIGHT, width), (-(-HEIGHT // stride), -(-width // stride))]
        x = draw.normal(size=(len(kinds), SOURCES, BATCH, *sizes[0], CHANNELS))
        y = draw.normal(size=(len(kinds), SOURCES, TARGETS, BATCH, *sizes[1], CHANNELS))
        given.append((x, y))

    @jax.jit
    def found_and_expected(given):
        results = []
        for (x, y), (kinds, stride) in zip(given, cases):
            narrow = [(x.astype(jnp.float32), y.astype(jnp.float32))]
            found = row_convolutions.kernel_gradient(narrow, kinds=kinds, stride=stride)
            results.append((found, shifted_products.kernel_gradient([(x, y)], kinds=kinds, stride=stride)))
        return results

    for (found, expected), case in zip(jax.device_get(found_and_expected(given)), cases, strict=True):
        assert found.dtype == jnp.float32
        atol = 2e-6 * np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=f"kinds and stride: {case}")


def test_second_derivatives_of_both_modes_are_those_of_the_usual_form(monkeypatch):
    """Of Pallas kernels for bfloat16, which add up two terms each; `JDARTS_DEPTHWISE` chooses them."""
    draw = np.random.default_rng(0)
    shapes = ((1, 2, 3, 2, 1), (1, 1, 1, 1, 1))
    point, direction = ([jnp.asarray(draw.normal(size=shape), jnp.bfloat16) for shape in shapes] for _ in range(2))

    def derivatives(x, kernels):
        def gradient(x, kernels):
            return jax.grad(lambda x, k: jnp.sum(depthwise_conv(x, k, rectified=True) ** 2), argnums=(0, 1))(x, kernels)

        forward_over_reverse = jax.jvp(gradient, (x, kernels), tuple(direction))[1]
        reverse_over_reverse = jax.grad(
            lambda *at: sum(jnp.sum(a * b) for a, b in zip(gradient(*at), direction)), argnums=(0, 1)
        )(x, kernels)
        return forward_over_reverse, reverse_over_reverse

    usual = jax.jit(derivatives)(*point)
    monkeypatch.setenv("JDARTS_DEPTHWISE", "pallas")
    program = jax.jit(lambda *at: derivatives(*at))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a.astype(np.float32), b.astype(np.float32), rtol=0.05, atol=0.05),
        program(*point),
        usual,
    )


def test_the_environment_chooses_a_form_for_each_platform(monkeypatch):
    x, taps, _ = operands(MIXED, True, 1, np.float32)

    def text(name, platform, *, spread=False):
        monkeypatch.setenv("JDARTS_DEPTHWISE", name)
        mesh, of_images = Mesh(np.array(jax.devices()[:1]), ("devices",)), PartitionSpec(None, None, "devices")
        convolved = functools.partial(joint.forward, kinds=MIXED, stride=1)
        over_images = jax.shard_map(
            convolved,
            mesh=mesh,
            in_specs=(of_images, PartitionSpec()),
            out_specs=PartitionSpec(None, None, None, "devices"),
        )
        run = jax.jit(over_images if spread else lambda x, taps: convolved(x, taps))
        return run.trace(x, taps).lower(lowering_platforms=(platform,)).as_text()

    assert "stablehlo.convolution" in text("grouped_convolutions", "cpu")
    assert "stablehlo.gather" in text("window_gathers", "tpu")
    assert "tpu_custom_call" in text("pallas", "tpu")
    assert "tpu_custom_call" in text("pallas", "tpu", spread=True)
    with pytest.raises(InputError, match="JDARTS_DEPTHWISE is pallas2; give shifted_products"):
        text("pallas2", "cpu")


def test_images_that_no_core_of_a_tpu_holds_are_convolved_in_groups(monkeypatch):
    monkeypatch.setattr(pallas_tpu, "_MOST", 1000)
    assert_defined(pallas_form("tpu", interpret=True), [(MIXED, True, 2)])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_adds_up_terms_and_sums_narrow_numbers_in_wide_ones(form):
    functions = FORMS[form]
    geometry = {"kinds": MIXED, "stride": 1}
    of_images = {"height": HEIGHT, "width": WIDTH, "shared": True}
    x, taps, y = operands(MIXED, True, 1, np.float32)

    def sums(function, a, b):
        narrow = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
        pairs = {
            "both": [(a, b), (2 * a, b + 1)],
            "one": [(a, b)],
            "other": [(2 * a, b + 1)],
            "narrow": [narrow],
            "rounded": [tuple(each.astype(jnp.float32) for each in narrow)],
        }
        return {name: function(each) for name, each in pairs.items()}

    @jax.jit
    def of_all_functions(x, taps, y):
        return [
            sums(functools.partial(function, **geometry, **more), a, b)
            for function, a, b, more in (
                (functions.forward, x, taps, {}),
                (functions.input_gradient, y, taps, of_images),
                (functions.kernel_gradient, x, y, {}),
            )
        ]

    for found in jax.device_get(of_all_functions(x, taps, y)):
        np.testing.assert_allclose(found["both"], found["one"] + found["other"], rtol=1e-4, atol=1e-4)
        assert found["narrow"].dtype == jnp.bfloat16
        np.testing.assert_allclose(found["narrow"].astype(np.float32), found["rounded"], rtol=0.03, atol=0.03)


def test_derivatives_of_both_modes_to_second_order():
    for kinds, shared, stride in DERIVED_CASES:
        x, taps, _ = operands(kinds, shared, stride)
        run = functools.partial(joint.forward, kinds=kinds, stride=stride)
        check_derivatives(run, (x, taps), order=2, rtol=1e-6)


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 1)])
def test_vmap_of_values_and_gradients_is_a_loop(axes):
    x, taps, y = jax.device_get(operands(MIXED, True, 2))
    xs = x if axes[0] is None else np.stack([x, 2 * x])
    all_taps = taps if axes[1] is None else np.stack([taps, taps + 1], axis=axes[1])

    def run(x, taps):
        out, pull = jax.vjp(functools.partial(joint.forward, kinds=MIXED, stride=2), x, taps)
        return out, pull(y)

    together, alone = jax.jit(jax.vmap(run, axes))(xs, all_taps), jax.jit(run)
    for n in range(2):
        one = alone(x if axes[0] is None else xs[n], taps if axes[1] is None else np.take(all_taps, n, axes[1]))
        jax.tree.map(lambda a, b, n=n: np.testing.assert_allclose(a[n], b, rtol=1e-12, atol=1e-12), together, one)


def test_gpus_get_gathers_and_tpus_grouped_convolutions():
    x, taps, y = operands(MIXED, True, 1, np.float32)

    def gradients(x, taps):
        return jax.vjp(functools.partial(joint.forward, kinds=MIXED, stride=1), x, taps)[1](y)

    for platform, gathers, convolutions in (("cuda", True, 0), ("tpu", False, 2 * len(MIXED))):
        text = jax.jit(gradients).trace(x, taps).lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.gather" in text, text.count("stablehlo.convolution")) == (gathers, convolutions)


def test_kinds_of_one_size_next_to_each_other_are_one_run():
    assert [(list(run.numbers), run.taps) for run in runs((Kind(3, 1), Kind(3, 2), Kind(5, 1)))] == [
        ([0, 1], slice(0, 18)),
        ([2], slice(18, 43)),
    ]
    kernels = [jnp.ones((1, 2, 3, 3, 4)), 2 * jnp.ones((1, 2, 5, 5, 4))]
    assert table_of_taps(kernels).shape == (34, 1, 2, 4)
