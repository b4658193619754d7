"""The forms of operations that TPUs get, which a CPU computes as well: the same numbers as those of the forms for CPUs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdarts.ops import mixing_forms, pointwise
from jdarts.ops.mixing import ONES
from jdarts.xla import leaves

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
    combine = functools.partial(mixing_forms.combine, tables=2, routes=ROUTES, sizes=ROWS_OUT)
    products = functools.partial(mixing_forms.products, num_x=2, routes=ROUTES, one_sum=False)

    @jax.jit
    def both(weights, xs, ys, many):
        tables = weights[:4], weights[4:]
        for_tpus = (
            combine(*tables, *xs, in_order=True),
            products(*xs, *ys, flat=False),
            mixing_forms.moments_in_joined_passes(*xs),
            leaves._join_in_groups(*many, mapped=False),
        )
        elsewhere = (
            combine(*tables, *xs),
            products(*xs, *ys),
            mixing_forms.moments_in_two_passes(*xs),
            leaves._join_in_jnp(*many, mapped=False),
        )
        return for_tpus, elsewhere

    for_tpus, elsewhere = both(weights, xs, ys, many)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), for_tpus, elsewhere)


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
