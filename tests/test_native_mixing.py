"""The native sums, products and moments against numpy and against the same functions in jnp."""

import functools
import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def on_device(arrays):
    return [jnp.asarray(a) for a in arrays]


@CHANNELS
@TYPES
def test_sums_and_products_are_those_of_numpy_and_jnp(channels, dtype, tolerance):
    draw = np.random.default_rng(channels)
    for middle in MIDDLES:
        routes = drawn_routes(draw)
        xs, ys = (stacks(draw, rows, middle, channels, dtype) for rows in (ROWS, SIZES))
        weights = draw.normal(size=(len(routes), channels)).astype(dtype)
        sums = combine(jnp.asarray(weights), on_device(xs), routes=routes, sizes=SIZES)
        dots = products(on_device(xs), on_device(ys), routes=routes)

        expected_sums = [np.zeros((size, *middle, channels)) for size in SIZES]
        expected_dots = np.zeros((len(routes), channels))
        for r, (k, i, q, j) in enumerate(routes):
            x = np.ones(()) if k == ONES else xs[k][i].astype(np.float64)
            expected_sums[q][j] += weights[r] * x
            expected_dots[r] = (x * ys[q][j]).reshape(-1, channels).sum(0)
        pairs = [*zip(sums, expected_sums), (dots, expected_dots)]
        combine_in_jnp = functools.partial(mixing_forms.combine, tables=1, routes=routes, sizes=SIZES)
        products_in_jnp = functools.partial(mixing_forms.products, num_x=len(xs), routes=routes)
        pairs += [*zip(sums, jax.jit(combine_in_jnp)(jnp.asarray(weights), *on_device(xs)))]
        pairs += [(dots, jax.jit(products_in_jnp)(*on_device(xs), *on_device(ys)))]
        for found, expected in pairs:
            assert found.dtype == dtype
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=20 * tolerance)
        assert not np.any(sums[0][2])


@CHANNELS
def test_moments_are_accurate_beside_a_large_mean(channels):
    draw = np.random.default_rng(channels)
    for middle in MIDDLES:
        xs = [(1000 + x).astype(np.float32) for x in stacks(draw, ROWS, middle, channels, np.float64)]
        mean, variance = moments(tuple(on_device(xs)))
        rows = np.concatenate(xs).astype(np.float64).reshape(sum(ROWS), -1, channels)
        np.testing.assert_allclose(mean, rows.mean(1), rtol=1e-7)
        np.testing.assert_allclose(variance, rows.var(1), rtol=1e-5)


def test_one_route_and_none():
    """A list of equal numbers and an empty one are lists of numbers to the compiler, too."""
    (x,) = on_device(stacks(np.random.default_rng(0), (1,), (2, 2), 3, np.float64))
    weights = jnp.full((1, 3), 2.0)
    np.testing.assert_allclose(combine(weights, [x], routes=((0, 0, 0, 0),), sizes=(1,))[0], 2 * x)
    np.testing.assert_array_equal(combine(weights[:0], [x], routes=(), sizes=(2,))[0], np.zeros((2, 2, 2, 3)))
    np.testing.assert_allclose(products([x], [x], routes=((0, 0, 0, 0),))[0], (x**2).sum((0, 1, 2)), rtol=1e-13)


def test_what_is_not_a_number_stays_in_its_channel_and_row():
    x = np.random.default_rng(0).normal(size=(2, 4, 9, 3))
    x[1, 2, 5, 1] = np.nan
    (out,) = combine(jnp.ones((2, 3)), on_device([x]), routes=((0, 0, 0, 0), (0, 1, 0, 1)), sizes=(2,))
    np.testing.assert_array_equal(out, x)
    for found in (*moments((jnp.asarray(x),)), products([], on_device([x]), routes=((ONES, 0, 0, 0), (ONES, 0, 0, 1)))):
        np.testing.assert_array_equal(np.isnan(found), [[False, False, False], [False, True, False]])


def test_infinite_values_have_the_moments_of_numpy(path):
    draw = np.random.default_rng(0)
    for dtype, middle in itertools.product((np.float32, np.float64), MIDDLES):
        x = draw.normal(size=(3, *middle, 5)).astype(dtype)
        flat = x.reshape(3, -1, 5)
        flat[0, -1, 0], flat[0, 0, 1], flat[1, 0, 2] = np.inf, -np.inf, np.nan
        flat[1, [0, -1], 3] = np.inf, -np.inf
        flat[2, :, 4] = np.inf
        with np.errstate(invalid="ignore"):
            expected = flat.mean(1), flat.var(1)
        tolerance = 1e-5 if dtype == np.float32 else 1e-12
        for found in (moments((jnp.asarray(x),)), jax.jit(jax.vmap(lambda x: moments((x,))))(jnp.asarray(x[None]))):
            for one, other in zip(found, expected):
                np.testing.assert_allclose(np.reshape(one, (3, 5)), other, rtol=tolerance, atol=tolerance)


def test_no_pixels():
    x = jnp.zeros((2, 0, 4, 4, 3))
    (out,) = combine(jnp.ones((1, 3)), [x], routes=((0, 0, 0, 0),), sizes=(1,))
    assert out.shape == (1, 0, 4, 4, 3)
    np.testing.assert_array_equal(products([x], [x], routes=((0, 0, 0, 1),)), np.zeros((1, 3)))
    assert all(np.isnan(found).all() for found in moments((x,)))


CHECKSUMS = """
import os, sys
if len(sys.argv) > 1:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import hashlib, jax, numpy as np
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

run = jax.jit(values)
for _ in range(5):
    leaves = jax.tree.leaves(run(weights, xs))
    print(hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in leaves)).hexdigest())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinities")
def test_results_are_bit_identical_whatever_the_threads(monkeypatch):
    """Over repeated calls, with all threads, and with one on one core (which must not wait for others)."""
    sums = set()
    for options, flags in (([], ""), (["one"], "--xla_cpu_multi_thread_eigen=false"), (["one"], "")):
        monkeypatch.setenv("XLA_FLAGS", flags)
        command = [sys.executable, "-c", CHECKSUMS, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.split()
        assert len(lines) == 5
        sums |= set(lines)
    assert len(sums) == 1
