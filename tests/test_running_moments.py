import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_derivatives

from jdarts.errors import InputError
from jdarts.ops.running_moments import Moments, batch_and_running_moments

#: Stacks of two and of three rows, of channels that do and do not fill a vector; one of a single pixel.
SIZES = [(3, 5, 4, 3), (2, 3, 3, 8), (1, 1, 1, 4)]


def operands(size, dtype: Any = np.float64, seed=0):
    draw = np.random.default_rng(seed)
    xs = tuple(jnp.asarray(draw.normal(2.0, 3.0, (rows, *size)), dtype) for rows in (2, 3))
    wide = np.float64 if dtype == np.float64 else np.float32
    return xs, Moments(*(jnp.asarray(draw.uniform(1, 2, (5, size[-1])), wide) for _ in range(2)))


def plain(xs, running):
    """Of the batch, and nine tenths of the running ones and one of the batch's, with the variance unbiased."""
    rows = np.concatenate([np.asarray(x, np.float64) for x in xs]).reshape(5, -1, xs[0].shape[-1])
    mean, variance = rows.mean(1), rows.var(1)
    unbiased = rows.var(1, ddof=1) if rows.shape[1] > 1 else variance
    return (
        mean,
        variance,
        0.9 * np.asarray(running.mean) + 0.1 * mean,
        0.9 * np.asarray(running.variance) + 0.1 * unbiased,
    )


def assert_plain(xs, running, tolerance):
    found = jax.jit(batch_and_running_moments)(xs, running)
    for part, expected in zip(jax.tree.leaves(found), plain(xs, running)):
        assert part.dtype == running.mean.dtype
        np.testing.assert_allclose(part, expected, rtol=tolerance, atol=tolerance)


def test_all_four_are_those_of_plain_arithmetic(image_path):
    for size in SIZES:
        assert_plain(*operands(size), 1e-12)
        # Functions for GPUs have maps of 16 bits, those for CPUs have not.
        if image_path == "GPU":
            assert_plain(*operands(size, jnp.bfloat16), 1e-5)


def test_derivatives_of_both_modes_to_second_order(image_path):
    xs, running = operands((2, 2, 1, 3))
    check_derivatives(batch_and_running_moments, (xs, running), order=2, rtol=1e-5)


def test_vmap_is_a_loop(image_path):
    lanes = [operands(SIZES[0], seed=seed) for seed in range(3)]
    together = jax.vmap(batch_and_running_moments, in_axes=1, out_axes=1)(
        *jax.tree.map(lambda *a: jnp.stack(a, axis=1), *lanes)
    )
    for n, lane in enumerate(lanes):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-12),
            jax.tree.map(lambda a, n=n: a[:, n], together),
            batch_and_running_moments(*lane),
        )


def test_running_statistics_move_in_place_and_are_left_alone_where_nobody_reads_them():
    xs, running = operands(SIZES[0], np.float32)

    def names(function):
        program = jax.jit(function, donate_argnums=1).trace(xs, running).lower(lowering_platforms=("cuda",)).as_text()
        aliases = re.findall(r"output_operand_alias<output_tuple_indices = \[(\d)\], operand_index = (\d)", program)
        return re.findall(r"@jdarts_gpu_(\w+)_float32", program), aliases

    assert names(batch_and_running_moments) == (["running_moments"], [("2", "1"), ("3", "2")])
    assert names(lambda xs, running: batch_and_running_moments(xs, running)[1]) == names(batch_and_running_moments)
    assert names(lambda xs, running: batch_and_running_moments(xs, running)[0]) == (["moments"], [])


@pytest.mark.parametrize("wrong", [(4, 3), (5, 1)])
def test_running_statistics_that_do_not_fit_are_refused(wrong):
    xs, _ = operands(SIZES[0])
    with pytest.raises(InputError, match=r"running statistics must be float64\[5, 3\]; got float64\[\d, \d\] and"):
        batch_and_running_moments(xs, Moments(jnp.ones(wrong), jnp.ones(wrong)))
    with pytest.raises(InputError, match="and float32"):
        batch_and_running_moments(xs, Moments(jnp.ones((5, 3)), jnp.ones((5, 3), np.float32)))
