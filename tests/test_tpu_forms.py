"""The forms of operations that TPUs get, which a CPU computes as well: the same numbers as those of the forms for CPUs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdarts.nets.layers import Preprocess
from jdarts.ops import mixing_forms, mixing_tangents, mixing_tpu_forms, pointwise, pool, pool_tpu_forms
from jdarts.ops.candidates import separable
from jdarts.ops.depthwise.joined_kernels import reordered_together
from jdarts.ops.mixing import ONES
from jdarts.ops.mixing_tangents import mixing_tangents_p
from jdarts.ops.norm import Plan, normalised_sum
from jdarts.ops.pool import avg_pool_3x3, max_pool_3x3
from jdarts.xla import leaves
from jdarts.xla.plain import in_operations_of_jax
from jdarts.xla.platform import compiling_for

#: Two sources with three targets each in each of two stacks, sums of the sources, constants, rows in reverse; out of order.
ROUTES = (
    *((0, 3 * source + target, 0, target) for source in range(2) for target in range(3)),
    *((ONES, 0, 0, target) for target in range(3)),
    *((1, source, 1, source) for source in range(2)),
    *((0, 5 - row, 1, row) for row in range(2)),
)
ROWS_IN, ROWS_OUT = (6, 2), (3, 2)


def numbers(*shapes, dtype: type = np.float64):
    draw = np.random.default_rng(len(shapes))
    return [jnp.asarray(draw.normal(size=shape), dtype) for shape in shapes]


def test_sums_along_routes_moments_and_joins_are_those_of_other_platforms():
    weights, *maps = numbers((len(ROUTES), 3), *((rows, 2, 3, 2, 3) for rows in (*ROWS_IN, *ROWS_OUT)))
    xs, ys = maps[:2], maps[2:]
    many = numbers(*((n % 3 + 1, 2) for n in range(2 * leaves.JOINED_AT_ONCE + 1)))
    combine = {"tables": 2, "routes": ROUTES, "sizes": ROWS_OUT}
    products = {"num_x": 2, "routes": ROUTES}

    @jax.jit
    def both(weights, xs, ys, many):
        tables = weights[:4], weights[4:]
        for_tpus = (
            mixing_tpu_forms.combine(*tables, *xs, **combine),
            mixing_tpu_forms.products(*xs, *ys, **products),
            mixing_tpu_forms.moments(*xs),
            leaves._join_in_groups(*many, mapped=False),
        )
        elsewhere = (
            mixing_forms.combine(*tables, *xs, **combine),
            mixing_forms.products(*xs, *ys, **products),
            mixing_forms.moments_in_two_passes(*xs),
            leaves._join_in_jnp(*many, mapped=False),
        )
        return for_tpus, elsewhere

    for_tpus, elsewhere = both(weights, xs, ys, many)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), for_tpus, elsewhere)


def test_stacks_are_joined_where_their_routes_are_fewer_grids_then():
    """The cotangents of a stage's nodes, in the sums that its operations' cotangents are."""
    sources, targets = 2, 3
    # To two operations' outputs, from the finished node and from the others; the outputs themselves, for their variances.
    routes = [
        (*((0, 0) if target == 0 else (1, target - 1)), operation, source * targets + target)
        for operation in range(2)
        for source in range(sources)
        for target in range(targets)
    ]
    routes += [(2 + operation, row, operation, row) for operation in range(2) for row in range(sources * targets)]
    rows_in, rows_out = (1, targets - 1, sources * targets, sources * targets), (sources * targets,) * 2
    assert mixing_tpu_forms._groups(tuple(routes), rows_in, rows_out) == [(0, 1), (2,), (3,)]
    weights, *maps = numbers((len(routes), 3), *((rows, 2, 3, 2, 3) for rows in (*rows_in, *rows_out)))
    combine = {"tables": 1, "routes": tuple(routes), "sizes": rows_out}

    @jax.jit
    def both(*operands):
        return [form.combine(*operands, **combine) for form in (mixing_tpu_forms, mixing_forms)]

    for found, expected in zip(*both(weights, *maps[:4]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    # The sums of the nodes are fewer rows than the outputs of which they are made.
    forward = mixing_tpu_forms._turned(tuple(routes[: 2 * sources * targets]))
    assert mixing_tpu_forms._groups(forward, rows_out, rows_in[:2]) == [(0,), (1,)]


def test_no_routes_are_no_sums():
    assert mixing_tpu_forms.products(jnp.ones((1, 2, 2, 2, 3)), num_x=0, routes=()).shape == (0, 3)


def normalised(weights, finished, others, per_source):
    """Two nodes' sums of batch norms: of two operations with a row for each edge, and of one with a row for each source."""
    edges = [(k, 2 * source + target, target) for k in range(2) for source in range(2) for target in range(2)]
    routes = [(k, row, target, 0) for k, row, target in edges]
    routes += [(2, source, target, 0) for source in range(2) for target in range(2)]
    plan = Plan(tuple(routes), (1, 1), normalised=3)
    outs, used = normalised_sum(weights, [finished, others, per_source], plan)
    return [jnp.tanh(out) for out in outs], used


FUNCTIONS = {
    "normalised sum": (normalised, [(12,), (4, 2, 2, 3, 3), (4, 2, 2, 3, 3), (2, 2, 2, 3, 3)]),
    "separable": (lambda *a: jnp.tanh(separable(*a)), [(2, 2, 4, 4, 3), (4, 3, 3, 3), (4, 3, 2)]),
    "one source": (lambda *a: jnp.tanh(separable(*a)), [(1, 2, 4, 4, 3), (3, 3, 3, 3), (3, 3, 2)]),
    "max pool": (lambda x: jnp.sin(max_pool_3x3(x)), [(2, 2, 5, 4, 3)]),
    "max pool with a stride": (lambda x: jnp.sin(max_pool_3x3(x, stride=2)), [(2, 2, 5, 4, 3)]),
    "avg pool": (lambda x: jnp.sin(avg_pool_3x3(x)), [(2, 2, 5, 4, 3)]),
    "avg pool with a stride": (lambda x: jnp.sin(avg_pool_3x3(x, stride=2)), [(2, 2, 5, 4, 3)]),
    "strided": (lambda *a: separable(*a, stride=2, dilation=2), [(2, 2, 4, 4, 3), (4, 3, 3, 3), (4, 3, 2)]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_to_second_order_in_both_modes_are_those_of_other_platforms(name, monkeypatch):
    monkeypatch.setenv("JDARTS_NATIVE", "0")
    function, shapes = FUNCTIONS[name]

    def value(operands):
        return sum(jnp.sum(out**2) for out in jax.tree.leaves(function(*operands)))

    def derivatives(operands, changes):
        gradient, forward_over_reverse = jax.jvp(jax.grad(value), (operands,), (changes,))
        reverse_over_forward = jax.grad(lambda operands: jax.jvp(value, (operands,), (changes,))[1])(operands)
        return function(*operands), gradient, forward_over_reverse, reverse_over_forward

    mapped = jax.vmap(derivatives)
    # Lanes join the sources.
    lanes = 1 if name == "one source" else 2
    operands, changes = (numbers(*((lanes, *shape) for shape in shapes)) for _ in range(2))
    forms = {mixing_tangents_p: mixing_tangents._in_two_calls}
    on_tpus = jax.jit(in_operations_of_jax(mapped, platform="tpu", replaced=forms))
    for found, expected in zip(on_tpus(operands, changes), jax.jit(mapped)(operands, changes), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), found, expected)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_of_whole_maps_are_those_of_joined_pixels(transposed):
    x, other, y = numbers((2, 2, 3, 2, 4), (2, 2, 3, 2, 5), (2, 2, 3, 2, 3))
    weights = numbers(*(((2, 3, 4), (2, 3, 5)) if transposed else ((2, 4, 3), (2, 5, 3))))

    @jax.jit
    def both(x, other, y, weights):
        product = {"sums": (0, 0), "transposed": transposed}
        return (
            [pointwise._pointwise_of_maps(x, other, *weights, **product), pointwise._pointwise_gradient_of_maps(x, y)],
            [pointwise._pointwise_in_jnp(x, other, *weights, **product), pointwise._pointwise_gradient_in_jnp(x, y)],
        )

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), *both(x, other, y, weights))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_max_pool_in_one_pass_takes_the_same_pixels(stride):
    """Of equal pixels the first, of NaNs the last, at the border none outside of the image."""
    draw = np.random.default_rng(0)
    values = np.array([-np.inf, -1.0, 0.0, 1.0, np.nan])

    @jax.jit
    def both(x):
        return [function(x, stride=stride) for function in (pool_tpu_forms.max_pool, pool._max_pool_in_jnp)]

    for height, width in ((5, 4), (1, 3), (2, 1)):
        x = draw.choice(values, size=(2, 3, height, width, 5), p=(0.5, 0.2, 0.1, 0.1, 0.1))
        x[0, 0] = -np.inf
        for found, expected in zip(*jax.device_get(both(x)), strict=True):
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 1), (5, 4), (4, 7)])
def test_means_of_windows_as_sums_of_shifted_images(height, width, stride):
    x, y = numbers((2, 3, height, width, 2), (2, 3, -(-height // stride), -(-width // stride), 2))
    size = {"height": height, "width": width}

    @jax.jit
    def both(x, y):
        forms = [
            (pool_form(x, stride=stride), back(y, stride=stride, **size))
            for pool_form, back in (
                (pool_tpu_forms.avg_pool, pool_tpu_forms.avg_pool_back),
                (pool._avg_pool_by_convolution, pool._avg_back_by_convolution),
            )
        ]
        narrow = x.astype(jnp.bfloat16)
        wide = pool_tpu_forms.avg_pool(narrow.astype(jnp.float32), stride=stride)
        return forms, (pool_tpu_forms.avg_pool(narrow, stride=stride), wide.astype(jnp.bfloat16))

    forms, of_narrow = both(x, y)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), *forms)
    # Sums of narrow numbers have the digits of wide ones.
    np.testing.assert_array_equal(*of_narrow)


def test_kernels_that_change_their_order_together_are_the_same_kernels():
    """Those of four and of two edges have as many taps together; the others are not alike, or no kernels of several edges."""
    four, two = ((2, edges, size, size, 2) for edges in (4, 2) for size in (3, 5)), ((2, 3, 3, 3, 2), (2, 1, 3, 3, 2))
    edges = numbers(*four, *two, (2, 4, 3, 3, 5), (2, 4, 2))
    weights = jax.device_get(dict(zip("abcdefgh", edges, strict=True)))
    assert reordered_together(weights) is weights

    def value(weights):
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(reordered_together(weights)))

    def derivatives(weights, changes):
        gradient, forward_over_reverse = jax.jvp(jax.grad(value), (weights,), (changes,))
        reverse_over_forward = jax.grad(lambda weights: jax.jvp(value, (weights,), (changes,))[1])(weights)
        return reordered_together(weights), gradient, forward_over_reverse, reverse_over_forward

    with compiling_for("tpu"):
        found = jax.jit(jax.vmap(derivatives))(weights, jax.tree.map(np.cos, weights))
        program = jax.make_jaxpr(lambda weights: reordered_together(weights))(jax.tree.map(lambda a: a[0], weights))
    second = jax.tree.map(lambda leaf: -np.sin(leaf) * np.cos(leaf), weights)
    for tree, expected in zip(found, (weights, jax.tree.map(np.cos, weights), second, second), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), tree, expected)
    # One array of all taps of the four kernels that are alike, and none of the others.
    assert str(program).count("optimization_barrier") == 2
    assert "f64[34,1,12] = optimization_barrier" in str(program)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("reduction_before", [False, True])
def test_a_cells_inputs_are_normalised_as_one_stack(affine, reduction_before):
    older, newer = numbers((3, 4, 4, 3) if reduction_before else (3, 2, 2, 3), (3, 2, 2, 4))
    module = Preprocess(6, reduction_before, None, affine)

    @jax.jit
    def both(key):
        variables = module.init(key, older, newer, train=True)

        def found(platform):
            with compiling_for(platform):
                trained = module.apply(variables, older, newer, train=True, mutable=["batch_stats"])
                return trained, module.apply(variables, older, newer, train=False)

        return found("tpu"), found("cpu")

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), *both(jax.random.key(0)))
