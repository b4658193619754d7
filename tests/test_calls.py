"""Calls of their own: the same values and derivatives, one graph each in programs for CPUs."""

import chex
import jax
import jax.numpy as jnp
import pytest

from jdarts.xla.outlined import inlining, outlined
from jdarts.xla.platform import compiling_for


def cubes(x):
    return jnp.sum(x**3), {"sine": jnp.sin(x)}


def with_a_call(x):
    total, others = outlined(cubes, x)(2 * x)
    return total + jnp.sum(others["sine"])


def inlined(x):
    total, others = cubes(2 * x)
    return total + jnp.sum(others["sine"])


def test_eager_code_calls_the_function_itself():
    assert outlined(cubes, jnp.ones(3)) is cubes


@pytest.mark.parametrize(
    "transformed",
    [
        jax.jit,
        jax.grad,
        lambda f: jax.grad(lambda x: jnp.sum(jax.grad(f)(x) ** 2)),
        lambda f: jax.jit(lambda x: jax.jvp(f, (x,), (x,))),
        lambda f: jax.vmap(lambda scale: f(scale * jnp.arange(3.0))),
    ],
    ids=["jit", "gradient", "second_order", "forward_mode", "vmap"],
)
def test_a_call_changes_no_value(transformed):
    x = jnp.asarray([0.3, -1.0, 2.0])
    chex.assert_trees_all_close(transformed(with_a_call)(x), transformed(inlined)(x), rtol=1e-6)


def test_a_call_may_have_no_result():
    assert jax.jit(lambda x: outlined(lambda _: {}, x)(x))(jnp.ones(3)) == {}


def test_programs_for_cpus_keep_the_call():
    if jax.default_backend() != "cpu":
        pytest.skip("calls are kept on CPUs alone")
    x = jnp.ones(3)
    programs = [str(jax.jit(function).lower(x).compile().as_text()) for function in (with_a_call, inlined)]
    assert [" call(" in program for program in programs] == [True, False]


def test_programs_for_other_platforms_have_no_such_call():
    x = jnp.ones(3)
    with compiling_for("gpu"):
        program = str(jax.jit(with_a_call).lower(x).compile().as_text())
    assert " call(" not in program


def test_what_is_traced_within_inlining_leaves_the_call_to_xla():
    x = jnp.arange(3.0)
    with compiling_for("cpu"), inlining(True):
        text = jax.jit(lambda x: with_a_call(x)).lower(x).as_text()
        with inlining(False):
            again = jax.jit(lambda x: with_a_call(x)).lower(x).as_text()
    assert "inlineable" not in text and "inlineable" in again
    assert "inlineable" in jax.jit(lambda x: with_a_call(x)).lower(x).as_text()
