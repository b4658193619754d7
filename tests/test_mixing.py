import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_derivatives

from jdarts.errors import InputError
from jdarts.ops.mixing import ONES, combine, moments, products
from jdarts.ops.norm import EPSILON, Affine, Plan, identity_plan, normalised_sum
from jdarts.ops.running_moments import Moments, running_moments
from jdarts.xla.platform import compiling_for

ROWS = (2, 3)
SIZES = (2, 1, 2)
#: Repeated sources and targets, a constant, and a target (2, 1) that no route leads to.
ROUTES = ((0, 0, 0, 0), (1, 2, 0, 0), (0, 1, 1, 0), (0, 1, 0, 1), (1, 0, 2, 0), (1, 0, 0, 0), (ONES, 0, 1, 0))


def arrays(*shapes, seed=0, dtype=np.float64) -> list[Any]:
    draw = np.random.default_rng(seed)
    return [draw.normal(size=shape).astype(dtype) for shape in shapes]


def operands(seed=0, lanes=(), dtype=np.float64):
    weights, *rest = arrays(
        (*lanes, len(ROUTES), 3), *((*lanes, rows, 2, 4, 4, 3) for rows in (*ROWS, *SIZES)), seed=seed, dtype=dtype
    )
    return weights, rest[: len(ROWS)], rest[len(ROWS) :]


def sums_products_and_moments(weights, xs, ys):
    return combine(weights, xs, routes=ROUTES, sizes=SIZES), products(xs, ys, routes=ROUTES), moments(tuple(xs))


def plain_combine(weights, xs):
    outs = [np.zeros((size, *xs[0].shape[1:])) for size in SIZES]
    for r, (k, i, q, j) in enumerate(ROUTES):
        outs[q][j] += weights[r] * (1.0 if k == ONES else xs[k][i])
    return outs


def plain_products(xs, ys):
    factors = [(np.ones_like(ys[q][j]) if k == ONES else xs[k][i], ys[q][j]) for k, i, q, j in ROUTES]
    return np.stack([(x * y).sum((0, 1, 2)) for x, y in factors])


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_values_are_those_of_plain_loops(image_path, dtype, tolerance):
    weights, xs, ys = operands(dtype=dtype)
    found, dots, (mean, variance) = jax.jit(sums_products_and_moments)(weights, xs, ys)
    for out, expected in zip(found, plain_combine(weights, xs)):
        assert out.dtype == dtype
        np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dots, plain_products(xs, ys), rtol=tolerance, atol=10 * tolerance)
    rows = np.concatenate(xs)
    np.testing.assert_allclose(mean, rows.mean((1, 2, 3)), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(variance, rows.var((1, 2, 3)), rtol=10 * tolerance)


def test_derivatives_of_both_modes_to_second_order(image_path):
    weights, xs, ys = operands()
    check_derivatives(functools.partial(combine, routes=ROUTES, sizes=SIZES), (weights, xs), order=2, rtol=1e-6)
    check_derivatives(functools.partial(products, routes=ROUTES), (xs, ys), order=2, rtol=1e-6)
    check_derivatives(moments, (tuple(xs),), order=2, rtol=1e-5)


def test_sums_alone_have_derivatives():
    (y,) = arrays((2, 1, 2, 2, 3))
    sums = functools.partial(products, [], routes=((ONES, 0, 0, 1), (ONES, 0, 0, 1)))
    check_derivatives(lambda y: sums([y]), (y,), order=2, rtol=1e-6)


def test_a_part_of_the_operands_may_be_constant():
    weights, xs, ys = operands()
    for index in range(len(xs)):

        def only(x, index=index):
            stacks = [x if k == index else other for k, other in enumerate(xs)]
            return combine(weights, stacks, routes=ROUTES, sizes=SIZES), products(stacks, ys, routes=ROUTES)

        check_derivatives(only, (xs[index],), order=1, rtol=1e-6)


@pytest.mark.parametrize("mapped", [(True, True), (True, False), (False, True)])
def test_vmap_is_a_loop(mapped):
    weights, xs, ys = operands(lanes=(3,))
    fixed_weights, fixed_xs, _ = operands(seed=1)
    axes = tuple(0 if is_mapped else None for is_mapped in mapped)
    given = (weights if mapped[0] else fixed_weights, xs if mapped[1] else fixed_xs)

    together = jax.jit(jax.vmap(sums_products_and_moments, in_axes=(*axes, 0)))(*given, ys)
    of_one = jax.jit(sums_products_and_moments)
    for lane in range(3):
        its_weights, its_xs = (
            jax.tree.map(lambda a, i=lane: a[i], part) if axis == 0 else part for axis, part in zip(axes, given)
        )
        alone = of_one(its_weights, its_xs, [y[lane] for y in ys])
        jax.tree.map(
            lambda many, one, i=lane: np.testing.assert_allclose(np.asarray(many)[i], one, rtol=1e-12, atol=1e-12),
            together,
            alone,
        )


def test_operands_that_do_not_fit_are_refused():
    weights, xs, ys = operands()
    with pytest.raises(InputError, match=r"weights must be \[routes, C\]"):
        combine(weights[:2], xs, routes=ROUTES, sizes=SIZES)
    with pytest.raises(InputError, match="row 7 of stack 0"):
        combine(weights[:1], xs, routes=((0, 7, 0, 0),), sizes=SIZES)
    with pytest.raises(InputError, match="alike in all but the first axis"):
        products([xs[0][:, :1]], ys, routes=())
    with pytest.raises(InputError, match=r"weights must be \[routes, C\] of float64"):
        combine(weights.astype(np.float32), xs, routes=ROUTES, sizes=SIZES)
    with pytest.raises(InputError, match="one floating type"):
        products([xs[0].astype(np.float32)], ys, routes=())


# Normalised sums: two normalised stacks and a plain one, several routes per row.

PLAN = Plan(
    routes=((0, 0, 0, 0), (0, 1, 1, 0), (1, 0, 0, 0), (1, 0, 1, 1), (2, 0, 1, 0), (2, 0, 0, 0)),
    sizes=(1, 2),
    normalised=2,
)


def normalised_operands():
    weights, *stacks = arrays((len(PLAN.routes),), (2, 3, 2, 2, 3), (1, 3, 2, 2, 3), (1, 3, 2, 2, 3), seed=2)
    return weights, [2.0 * stack + 1.0 for stack in stacks]


def plain_normalised_sum(weights, stacks, running=None):
    """Each row normalised by itself, then added up."""
    rows = [(k, i) for k in range(PLAN.normalised) for i in range(stacks[k].shape[0])]
    outs = [[0.0] * size for size in PLAN.sizes]
    for r, (k, i, q, j) in enumerate(PLAN.routes):
        x = stacks[k][i]
        if k < PLAN.normalised and running is None:
            x = (x - x.mean((0, 1, 2), keepdims=True)) / jnp.sqrt(x.var((0, 1, 2), keepdims=True) + EPSILON)
        elif k < PLAN.normalised:
            assert running is not None
            mean, variance = (m[rows.index((k, i))].reshape(1, 1, 1, -1) for m in running)
            x = (x - mean) / jnp.sqrt(variance + EPSILON)
        outs[q][j] = outs[q][j] + weights[r] * x
    return tuple(jnp.stack(out) for out in outs)


def test_normalised_sum_is_the_sum_of_normalised_rows():
    weights, stacks = normalised_operands()

    @jax.jit
    def found_and_plain(weights, stacks):
        outs, used = normalised_sum(weights, stacks, PLAN)
        running = Moments(used.mean + 1, 2 * used.variance)
        found = outs, normalised_sum(weights, stacks, PLAN, running)[0]
        return used, found, (plain_normalised_sum(weights, stacks), plain_normalised_sum(weights, stacks, running))

    used, found, plain = found_and_plain(weights, stacks)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), found, plain)
    rows = np.concatenate(stacks[:2])
    np.testing.assert_allclose(used.mean, rows.mean((1, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(used.variance, rows.var((1, 2, 3)), rtol=1e-12)


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (0, 0, 1, 1, 2, 3, 4), (5, 1, 4, 0, 2)])
def test_in_programs_for_gpus_routes_have_the_same_factors(order):
    weights, stacks = normalised_operands()
    weights, plan = weights[np.array(order)], PLAN._replace(routes=tuple(PLAN.routes[r] for r in order))

    def derivatives(weights, stacks):
        def value(weights, stacks):
            outs, used = normalised_sum(weights, stacks, plan)
            return sum(jnp.sum(jnp.sin(out)) for out in outs), (outs, used)

        gradient = jax.grad(value, (0, 1), has_aux=True)
        return jax.jvp(gradient, (weights, stacks), jax.tree.map(jnp.cos, (weights, stacks)))

    found = []
    for platform in ("cpu", "gpu"):
        with compiling_for(platform):
            program = jax.jit(lambda *operands: derivatives(*operands)).trace(weights, stacks)
            found.append(program.lower().compile()(weights, stacks))
            assert ("dot_general" in str(program.jaxpr)) == (platform == "cpu")
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12), *found)


def test_running_statistics_follow_the_batch():
    weights, stacks = normalised_operands()
    before = Moments(*arrays((3, 3), (3, 3), seed=3))

    def both(moved, *operands):
        """The results and the running statistics after the batch, by `normalised_sum` or from the batch's statistics."""
        weights, stacks, before = operands
        if moved:
            return normalised_sum(weights, stacks, PLAN, following=before)
        outs, batch = normalised_sum(weights, stacks, PLAN)
        return outs, running_moments(before, batch, count=12)

    operands = weights, stacks, before
    tangents = jax.tree.map(np.cos, operands)
    found, expected = (jax.jit(lambda *given, m=m: jax.jvp(functools.partial(both, m), *given)) for m in (True, False))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12),
        found(operands, tangents),
        expected(operands, tangents),
    )


def derivatives(function):
    """Of a sum of sines of the results: gradients, and changes of gradients in both modes."""
    weights, stacks = normalised_operands()
    cotangents = arrays((1, 3, 2, 2, 3), (2, 3, 2, 2, 3), seed=3)

    def scalar(weights, stacks):
        return sum(jnp.sum(ct * jnp.sin(out)) for ct, out in zip(cotangents, function(weights, stacks)))

    @jax.jit
    def all_of_them(weights, stacks):
        of_stacks = jax.jit(jax.grad(scalar, 1))
        return (
            jax.grad(scalar, (0, 1))(weights, stacks),
            jax.jvp(lambda w: of_stacks(w, stacks), (weights,), (jnp.cos(weights),)),
            jax.grad(lambda w, s: sum(jnp.sum(g**2) for g in of_stacks(w, s)), (0, 1))(weights, stacks),
        )

    return jax.device_get(all_of_them(weights, stacks))


@functools.cache
def plain_derivatives():
    return derivatives(plain_normalised_sum)


def test_its_derivatives_are_those_of_the_plain_form(image_path):
    found = derivatives(lambda weights, stacks: normalised_sum(weights, stacks, PLAN)[0])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-10), found, plain_derivatives())


def test_derivatives_in_both_modes_to_second_order():
    """Of results and statistics; with scale and bias, and with routes in another order than the stacks."""
    weights, stacks = normalised_operands()
    affine = Affine(*arrays((3, 3), (3, 3), seed=4))
    turned = PLAN._replace(routes=PLAN.routes[::-1])
    for plan in (PLAN, turned, identity_plan((2, 1, 1))):
        routes = len(plan.routes)
        its_affine = affine if plan.normalised == 2 else None
        check_derivatives(
            lambda w, a, s, plan=plan: normalised_sum(w, s, plan, affine=a),
            (weights[:routes], its_affine, stacks),
            order=2,
            rtol=1e-5,
        )


def test_only_some_stacks_may_change():
    weights, stacks = normalised_operands()
    for index in range(len(stacks)):

        def only(x, index=index):
            return normalised_sum(weights, [x if k == index else s for k, s in enumerate(stacks)], PLAN)

        check_derivatives(only, (stacks[index],), order=2, rtol=1e-5)


def test_vmap_of_derivatives_is_a_loop(image_path):
    weights, stacks = normalised_operands()
    many = np.stack([weights, 2 * weights, weights**2])

    def gradient(weights, stacks):
        return jax.grad(lambda s: sum(jnp.sum(jnp.sin(out)) for out in normalised_sum(weights, s, PLAN)[0]))(stacks)

    def change(weights, stacks):
        return jax.jvp(lambda s: normalised_sum(weights, s, PLAN), (stacks,), (jax.tree.map(jnp.cos, stacks),))[1]

    def both(weights, stacks):
        return gradient(weights, stacks), change(weights, stacks)

    together, alone = jax.jit(jax.vmap(both, in_axes=(0, None)))(many, stacks), jax.jit(both)
    for lane in range(3):
        jax.tree.map(
            lambda a, b, i=lane: np.testing.assert_allclose(np.asarray(a)[i], b, rtol=1e-10, atol=1e-12),
            together,
            alone(many[lane], stacks),
        )


@pytest.mark.parametrize("normalised", [2, 3])
def test_narrow_maps_have_wide_statistics_and_derivatives_close_to_the_wide_ones(normalised):
    weights, stacks = normalised_operands()
    weights = weights.astype(np.float32)
    narrow = [stack.astype(jnp.bfloat16) for stack in stacks]
    wide = [stack.astype(np.float32) for stack in narrow]
    plan = PLAN._replace(normalised=normalised)

    def value(weights, stacks):
        outs, used = normalised_sum(weights, stacks, plan)
        return sum(jnp.sum(jnp.sin(out.astype(jnp.float32))) for out in outs), (outs, used)

    everything = jax.value_and_grad(value, (0, 1), has_aux=True)
    found = jax.jit(lambda *given: [everything(weights, stacks) for stacks in given])(narrow, wide)
    ((_, (outs, used)), grads), ((_, (expected, moments)), wide_grads) = jax.device_get(found)
    assert all(out.dtype == jnp.bfloat16 for out in (*outs, *grads[1]))
    assert grads[0].dtype == jnp.float32 and all(part.dtype == jnp.float32 for part in used)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), used, moments)
    for found, right in zip((*outs, grads[0], *grads[1]), (*expected, wide_grads[0], *wide_grads[1])):
        assert np.linalg.norm(found.astype(np.float32) - right) < 0.03 * np.linalg.norm(right)


def test_synchronised_statistics_are_those_of_the_whole_batch():
    if jax.device_count() < 2:
        pytest.skip("needs two devices; jax was started with one")
    weights, stacks = normalised_operands()
    stacks = [np.concatenate([stack, stack[:, ::-1] * 3], axis=1) for stack in stacks]
    shards = [np.stack(np.split(stack, 2, axis=1)) for stack in stacks]
    plan = PLAN._replace(axis_name="devices")

    def value(plan, weights, stacks):
        outs, used = normalised_sum(weights, stacks, plan)
        return sum(jnp.mean(jnp.sin(out)) for out in outs), used

    def device(weights, stacks):
        (_, used), grads = jax.value_and_grad(functools.partial(value, plan), argnums=(0, 1), has_aux=True)(
            weights, stacks
        )
        return used, jax.lax.pmean(grads[0], "devices"), grads[1]

    used, of_weights, of_stacks = jax.pmap(device, axis_name="devices", in_axes=(None, 0), out_axes=(None, None, 0))(
        weights, shards
    )
    alone = jax.jit(jax.value_and_grad(functools.partial(value, PLAN), argnums=(0, 1), has_aux=True))
    (_, expected), grads = alone(weights, stacks)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), used, expected)
    np.testing.assert_allclose(of_weights, grads[0], rtol=1e-9, atol=1e-12)
    for shard, whole in zip(jax.device_get(of_stacks), grads[1]):
        # Each device holds the gradient of the sum over devices; the mean of two is half of it.
        np.testing.assert_allclose(np.concatenate(shard, axis=1) / 2, whole, rtol=1e-9, atol=1e-12)


def test_running_statistics_take_a_tenth_of_each_batch():
    running, batch = [np.full((1, 2), 2.0), np.ones((1, 2))], [np.ones((1, 2)), np.full((1, 2), 3.0)]
    after = jax.jit(lambda *both: running_moments(*(Moments(*each) for each in both), count=4))(running, batch)
    np.testing.assert_allclose(after.mean, 0.9 * 2 + 0.1, rtol=1e-12)
    np.testing.assert_allclose(after.variance, 0.9 + 0.1 * 3 * 4 / 3, rtol=1e-12)
    assert identity_plan((2, 1)).routes == ((0, 0, 0, 0), (0, 1, 0, 1), (1, 0, 1, 0))
