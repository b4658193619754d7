"""Routes as grids, and the sums and products of regular routes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdarts.ops import mixing_forms
from jdarts.ops.mixing import ONES, combine, products
from jdarts.ops.route_grids import grids, rows

#: Three kinds of operations from two sources to four targets; two outputs for each source; constants.
EDGES = tuple((0, 4 * group + target, 0, target) for group in range(6) for target in range(4))
SHARED = tuple((1, source, 0, target) for source in range(2) for target in range(4))
CONSTANTS = tuple((ONES, 0, 0, target) for target in range(4))
ROWS_IN, ROWS_OUT = (24, 2), (4,)


def test_regular_routes_are_one_grid_for_each_stack():
    found = grids(EDGES + SHARED + CONSTANTS, ROWS_IN, ROWS_OUT)
    assert [(grid.stacks, grid.counts) for grid in found] == [((0, 0), (6, 4)), ((1, 0), (2, 4)), ((ONES, 0), (4,))]


#: The cotangents of three nodes to the edges from two sources, and a route more: the routes are no multiple of three.
BACK = (*((0, target, 0, 3 * source + target) for source in range(2) for target in range(3)), (1, 0, 0, 0))


def test_a_table_of_routes_limits_grids_where_its_rows_are_read():
    assert [grid.counts for grid in grids(BACK, (3, 1), (6,))] == [(3,), (3,), ()]
    assert [grid.counts for grid in grids(BACK, (3, 1), (6,), by_number=False)] == [(2, 3), ()]


@pytest.mark.parametrize(
    ("routes", "rows_in", "rows_out"),
    [(EDGES + SHARED + CONSTANTS, ROWS_IN, ROWS_OUT), (BACK[:6], (3,), (6,))],
)
def test_innermost_loops_hold_every_route_of_their_grid_once(routes, rows_in, rows_out):
    for grid in grids(routes, rows_in, rows_out, by_number=False):
        found = []
        for one in grid.innermost():
            (loop,) = one.loops
            steps = [(one.source + n * loop.source, one.target + n * loop.target) for n in range(loop.count)]
            found += zip(one.numbers(), steps)
        expected = [(number, routes[number][1::2]) for number in grid.numbers()]
        assert found == expected


def test_grids_hold_every_route_once():
    draw = np.random.default_rng(0)
    for length in (1, 7, 40):
        for _ in range(20):
            routes = tuple(
                (int(draw.integers(2)), int(draw.integers(2)), 0, int(draw.integers(4))) for _ in range(length)
            )
            found = []
            for grid in grids(routes, ROWS_IN, ROWS_OUT):
                parts = [(grid.route, grid.source, grid.target)]
                for loop in grid.loops:
                    parts = [
                        tuple(a + run * step for a, step in zip(part, loop[1:]))
                        for part in parts
                        for run in range(loop.count)
                    ]
                assert [part[0] for part in parts] == grid.numbers()
                found += [(number, (grid.stacks[0], i, grid.stacks[1], j)) for number, i, j in parts]
            assert sorted(found) == list(enumerate(routes))


def test_rows_of_loops():
    array = np.arange(24)
    jnp_array = jnp.asarray(array)
    np.testing.assert_array_equal(rows(jnp_array, 5, []), 5)
    np.testing.assert_array_equal(rows(jnp_array, 2, [(3, 8), (2, 0), (2, 2)]), [[[2, 4]], [[10, 12]], [[18, 20]]])


@pytest.mark.usefixtures("without_native")
@pytest.mark.parametrize("runs", [None, 3])
def test_regular_sums_and_products_are_those_of_numpy(runs):
    """Also vmapped, where the rows of all runs are one stack."""
    draw = np.random.default_rng(1)
    routes = SHARED + EDGES + CONSTANTS
    lead = () if runs is None else (runs,)
    weights = draw.normal(size=(*lead, len(routes), 3))
    xs = [draw.normal(size=(*lead, count, 2, 2, 3)) for count in ROWS_IN]
    y = draw.normal(size=(*lead, 4, 2, 2, 3))

    def run(weights, xs, y):
        return combine(weights, xs, routes=routes, sizes=ROWS_OUT)[0], products(xs, [y], routes=routes)

    sums, dots = (run if runs is None else jax.vmap(run))(*jax.tree.map(jnp.asarray, (weights, xs, y)))
    for n in np.ndindex(lead):
        expected = np.zeros((4, 2, 2, 3))
        for r, (k, i, _, j) in enumerate(routes):
            x = np.ones((2, 2, 3)) if k == ONES else xs[k][n][i]
            expected[j] += weights[n][r] * x
            np.testing.assert_allclose(dots[n][r], (x * y[n][j]).sum((0, 1)), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(sums[n], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e3, -3e4])
def test_variances_of_maps_far_from_zero_are_those_of_float64(offset):
    """In float32, whose squares of the maps themselves have no digit left for the variance."""
    draw = np.random.default_rng(2)
    x = (draw.normal(size=(3, 8, 16, 16, 4)) + offset).astype(np.float32)
    exact = x.astype(np.float64)
    mean, variance = jax.jit(mixing_forms.moments)(x)
    np.testing.assert_allclose(mean, exact.mean((1, 2, 3)), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(variance, exact.var((1, 2, 3)), rtol=2e-5)
    ones = jnp.full((1, 4, 4, 4, 2), offset, jnp.float32)
    np.testing.assert_array_equal(mixing_forms.moments(ones)[1], 0)
