"""The native sums, products and moments against numpy and against the same functions in jnp."""

import itertools
import os

import jax
import numpy as np
import pytest
from small_runs import run_in_a_process

from jdarts import native
from jdarts.ops import mixing_forms
from jdarts.ops.mixing import ONES, combine, moments, products

ROWS = (2, 5, 1)
SIZES = (3, 1, 2)
#: Channels below, at, between and above the lanes of a vector.
CHANNELS = pytest.mark.parametrize("channels", [1, 3, 16, 17, 64])
#: Less than a vector, and enough for several blocks and a rest.
MIDDLES = [(1,), (2, 3, 3), (3, 9, 11)]
TYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])


@pytest.fixture(autouse=True)
def with_native_kernels(monkeypatch):
    monkeypatch.delenv("JDARTS_NATIVE", raising=False)
    if native.lowering("combine", np.dtype(np.float32)) is None:
        pytest.skip("no native library can be built here")


def drawn_routes(draw):
    """Routes from ones too, repeated ones, many to one row, and none to row 2 of result 0."""
    routes = []
    while len(routes) < 14:
        k, q = int(draw.integers(-1, len(ROWS))), int(draw.integers(len(SIZES)))
        route = (k, 0 if k == ONES else int(draw.integers(ROWS[k])), q, int(draw.integers(SIZES[q])))
        if route[2:] != (0, 2):
            routes.append(route)
    return (*routes, routes[0], *[(1, i % 5, 1, 0) for i in range(12)], (ONES, 0, 2, 1), (ONES, 0, 2, 1))


def stacks(draw, rows, middle, channels, dtype):
    return [draw.normal(size=(count, *middle, channels)).astype(dtype) for count in rows]


@CHANNELS
@TYPES
def test_sums_and_products_are_those_of_numpy_and_jnp(channels, dtype, tolerance):
    draw = np.random.default_rng(channels)
    all_routes, operands = [], []
    for middle in MIDDLES:
        routes = drawn_routes(draw)
        xs, ys = (stacks(draw, rows, middle, channels, dtype) for rows in (ROWS, SIZES))
        weights = draw.normal(size=(len(routes), channels)).astype(dtype)
        all_routes.append(routes)
        operands.append((weights, xs, ys))

    def ours(routes, weights, xs, ys):
        return combine(weights, xs, routes=routes, sizes=SIZES), products(xs, ys, routes=routes)

    def in_jnp(routes, weights, xs, ys):
        sums = mixing_forms.combine(weights, *xs, tables=1, routes=routes, sizes=SIZES)
        return tuple(sums), mixing_forms.products(*xs, *ys, num_x=len(xs), routes=routes)

    def both(operands):
        return [(ours(routes, *each), in_jnp(routes, *each)) for routes, each in zip(all_routes, operands)]

    found = jax.jit(both)(operands)
    for routes, (weights, xs, ys), (native_ones, others) in zip(all_routes, operands, found, strict=True):
        expected_sums = [np.zeros((size, *xs[0].shape[1:])) for size in SIZES]
        expected_dots = np.zeros((len(routes), channels))
        for r, (k, i, q, j) in enumerate(routes):
            x = np.ones(()) if k == ONES else xs[k][i].astype(np.float64)
            expected_sums[q][j] += weights[r] * x
            expected_dots[r] = (x * ys[q][j]).reshape(-1, channels).sum(0)
        for expected in (tuple(expected_sums), expected_dots), others:
            for one, other in zip(jax.tree.leaves(native_ones), jax.tree.leaves(expected), strict=True):
                assert one.dtype == dtype
                np.testing.assert_allclose(one, other, rtol=tolerance, atol=20 * tolerance)
        assert not np.any(np.asarray(native_ones[0][0])[2])


@CHANNELS
def test_moments_are_accurate_beside_a_large_mean(channels):
    draw = np.random.default_rng(channels)
    stacked = [
        tuple((1000 + x).astype(np.float32) for x in stacks(draw, ROWS, middle, channels, np.float64))
        for middle in MIDDLES
    ]
    found = jax.jit(lambda stacked: [moments(xs) for xs in stacked])(stacked)
    for xs, (mean, variance) in zip(stacked, found, strict=True):
        rows = np.concatenate(xs).astype(np.float64).reshape(sum(ROWS), -1, channels)
        np.testing.assert_allclose(mean, rows.mean(1), rtol=1e-7)
        np.testing.assert_allclose(variance, rows.var(1), rtol=1e-5)


def test_one_route_and_none():
    """A list of equal numbers and an empty one are lists of numbers to the compiler, too."""
    (x,) = stacks(np.random.default_rng(0), (1,), (2, 2), 3, np.float64)

    @jax.jit
    def found(weights, x):
        one = combine(weights, [x], routes=((0, 0, 0, 0),), sizes=(1,))
        none = combine(weights[:0], [x], routes=(), sizes=(2,))
        return one[0], none[0], products([x], [x], routes=((0, 0, 0, 0),))[0]

    one, none, product = found(np.full((1, 3), 2.0), x)
    np.testing.assert_allclose(one, 2 * x)
    np.testing.assert_array_equal(none, np.zeros((2, 2, 2, 3)))
    np.testing.assert_allclose(product, (x**2).sum((0, 1, 2)), rtol=1e-13)


def test_what_is_not_a_number_stays_in_its_channel_and_row():
    x = np.random.default_rng(0).normal(size=(2, 4, 9, 3))
    x[1, 2, 5, 1] = np.nan

    @jax.jit
    def values(weights, x):
        sums = combine(weights, [x], routes=((0, 0, 0, 0), (0, 1, 0, 1)), sizes=(2,))
        return *sums, *moments((x,)), products([], [x], routes=((ONES, 0, 0, 0), (ONES, 0, 0, 1)))

    out, *others = values(np.ones((2, 3)), x)
    np.testing.assert_array_equal(out, x)
    for found in others:
        np.testing.assert_array_equal(np.isnan(found), [[False, False, False], [False, True, False]])


def test_infinite_values_have_the_moments_of_numpy(path):
    draw = np.random.default_rng(0)
    given = []
    for dtype, middle in itertools.product((np.float32, np.float64), MIDDLES):
        x = draw.normal(size=(3, *middle, 5)).astype(dtype)
        flat = x.reshape(3, -1, 5)
        flat[0, -1, 0], flat[0, 0, 1], flat[1, 0, 2] = np.inf, -np.inf, np.nan
        flat[1, [0, -1], 3] = np.inf, -np.inf
        flat[2, :, 4] = np.inf
        given.append(x)
    vmapped = jax.vmap(lambda x: moments((x,)))
    found = jax.jit(lambda given: [(moments((x,)), vmapped(x[None])) for x in given])(given)
    for x, both in zip(given, found, strict=True):
        flat = x.reshape(3, -1, 5)
        with np.errstate(invalid="ignore"):
            expected = flat.mean(1), flat.var(1)
        tolerance = 1e-5 if x.dtype == np.float32 else 1e-12
        for ours in both:
            for one, other in zip(ours, expected):
                np.testing.assert_allclose(np.reshape(one, (3, 5)), other, rtol=tolerance, atol=tolerance)


def test_no_pixels():

    @jax.jit
    def values(weights, x):
        sums = combine(weights, [x], routes=((0, 0, 0, 0),), sizes=(1,))
        return *sums, products([x], [x], routes=((0, 0, 0, 1),)), moments((x,))

    out, dots, both_moments = values(np.ones((1, 3)), np.zeros((2, 0, 4, 4, 3)))
    assert out.shape == (1, 0, 4, 4, 3)
    np.testing.assert_array_equal(dots, np.zeros((1, 3)))
    assert all(np.isnan(found).all() for found in both_moments)


#: Takes the settings in turn, each in a fork that starts JAX's backend for itself.
CHECKSUMS = """
import hashlib, os, signal, sys
import jax, numpy as np
from jdarts.ops.mixing import ONES, combine, moments, products
from jdarts.ops.pool import max_pool_3x3

routes = tuple((n % 3 - 1, n % 2 if n % 3 else 0, n % 2, n % 3 % (1 + n % 2)) for n in range(20))
draw = np.random.default_rng(0)
xs = [draw.standard_normal((2, 16, 33, 31, 24)).astype(np.float32) for _ in range(2)]
weights = draw.standard_normal((len(routes), 24)).astype(np.float32)

def values(weights, xs):
    sums = combine(weights, xs, routes=routes, sizes=(1, 2))
    dots = products(xs, sums, routes=routes)
    pooled, pull_back = jax.vjp(max_pool_3x3, xs[0])
    return sums, dots, moments(tuple(xs)), pooled, pull_back(pooled)

def run():
    step = jax.jit(values)
    for _ in range(5):
        leaves = jax.tree.leaves(step(weights, xs))
        print(hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in leaves)).hexdigest(), flush=True)

for cores, flags in (("all", ""), ("one", "--xla_cpu_multi_thread_eigen=false"), ("one", "")):
    child = os.fork()
    if not child:
        signal.alarm(200)
        os.environ["XLA_FLAGS"] = flags
        if cores == "one":
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        run()
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"the process with {cores} and {flags} failed")
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinities")
def test_results_are_bit_identical_whatever_the_threads():
    """Over repeated calls, with all threads, and with one on one core (which must not wait for others)."""
    code, shown, errors = run_in_a_process("-c", CHECKSUMS)
    assert code == 0, errors
    lines = shown.split()
    assert len(lines) == 15 and len(set(lines)) == 1
