"""What must hold for every operation of a cell, as a test that a program can run on its operations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.operations import Operation, implementation
from jdarts.ops.candidates import Implementation, Weights

SOURCES, TARGETS, BATCH = 2, 2, 2
EDGES = SOURCES * TARGETS


def check_operation(operation: str | Operation, *, channels: int = 4, size: int = 6) -> None:
    """Checks an operation at stride 1 and 2, in float64 and in float32.

    Its outputs have the right shapes and types; every edge reads its own source; the function is the same under `jit` and
    `vmap`; and its derivatives, forward, backward and by finite differences, agree. Such a test is

        def test_my_operation():
            jdarts.testing.check_operation("my_operation")

    Args:
      operation: a registered name, or a row of the table.
      channels: of the images.
      size: height and width of the images, an even number.

    Raises:
      AssertionError: something does not hold; the message says what.
      InputError: there is no such operation.
    """
    for stride in (1, 2):
        name = operation if isinstance(operation, str) else operation.name
        found = implementation(name, stride) if isinstance(operation, str) else operation.implement(stride)
        with jax.enable_x64(True):
            (_check_random if found.random else _check)(f"{name} at stride {stride}", found, stride, channels, size)


def _inputs(operation: Implementation, channels: int, size: int) -> tuple[jax.Array, Weights]:
    """Sources and weights in float64."""
    draw = np.random.default_rng(0)
    states = jnp.asarray(draw.normal(size=(SOURCES, BATCH, size, size, channels)))
    shapes = operation.weights(channels)
    return states, {name: jnp.asarray(draw.normal(size=(EDGES, *shape))) for name, (shape, _) in shapes.items()}


def _check(what: str, operation: Implementation, stride: int, channels: int, size: int) -> None:
    states, weights = _inputs(operation, channels, size)
    apply = operation.without_norms
    out = apply(states, weights)
    edges = SOURCES if operation.per_source else EDGES
    _check_array(what, out, (edges, BATCH, size // stride, size // stride, channels), states.dtype)
    assert bool(weights) == operation.has_weights, f"{what}: its weights depend on the number of channels"
    assert not (operation.per_source and weights), f"{what}: edges with weights cannot share one output"
    if operation.identity:
        _close(f"{what}: the identity differs from its input", out, states, rtol=0, atol=0)

    # Of all that is compared one program is compiled.
    compiled = jax.jit(lambda *inputs: _variants(apply, *inputs) | _derivatives(apply, *inputs))
    out, found = jax.device_get((out, compiled(states, weights)))
    _close(f"{what}: another result under jit", found["again"], out)
    _check_array(f"{what} in float32", found["single"], out.shape, jnp.float32)
    _close(f"{what}: another result in float32", found["single"], out, rtol=1e-4, atol=1e-4)
    words = f"{what}: an edge reads another source than its own"
    _close(words, found["alone"][: edges // 2], out[: edges // 2])
    _close(words, found["first"], out[: edges // 2])
    _close(f"{what}: another result under vmap", found["vmapped"], found["doubled"])
    _close(f"{what}: forward and backward derivatives differ", found["slope"], found["pulled"])
    words = f"{what}: its derivative is not that of its values"
    _close(words, found["difference"], found["slope"], rtol=1e-3, atol=1e-3)


def _variants(apply: Any, states: jax.Array, weights: Weights) -> dict[str, jax.Array]:
    """Outputs of an operation for these inputs, narrower ones, some of them, and a stack of two."""
    two = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), (states, weights))
    return {
        "again": apply(states, weights),
        "single": apply(*jax.tree.map(lambda a: a.astype(jnp.float32), (states, weights))),
        "alone": apply(states.at[1].set(0), weights),
        "first": apply(states[:1], {name: value[:TARGETS] for name, value in weights.items()}),
        "vmapped": jax.vmap(apply)(*two)[1],
        "doubled": apply(2 * states, {name: 2 * value for name, value in weights.items()}),
    }


def _derivatives(apply: Any, states: jax.Array, weights: Weights) -> dict[str, jax.Array]:
    """The derivative along a direction: forward, backward and by a central difference."""
    draw = np.random.default_rng(1)
    direction = jax.tree.map(lambda a: jnp.asarray(draw.normal(size=a.shape)), (states, weights))

    def value(states: jax.Array, weights: Weights) -> jax.Array:
        return jnp.sum(jnp.sin(apply(states, weights)))

    def beside(step: float) -> jax.Array:
        return value(*jax.tree.map(lambda a, b: a + step * b, (states, weights), direction))

    grads = jax.grad(value, argnums=(0, 1))(states, weights)
    return {
        "slope": jax.jvp(value, (states, weights), direction)[1],
        "pulled": jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, grads, direction)),
        "difference": (beside(1e-6) - beside(-1e-6)) / 2e-6,
    }


def _check_random(what: str, operation: Implementation, stride: int, channels: int, size: int) -> None:
    states, weights = jax.tree.map(lambda a: a.astype(jnp.float32), _inputs(operation, channels, size))
    draw = jax.jit(operation.first, static_argnums=3)
    one, again, other = jax.device_get([draw(states, weights, jax.random.key(seed), EDGES) for seed in (0, 0, 1)])
    _check_array(what, one, (EDGES, BATCH, size // stride, size // stride, channels), states.dtype)
    assert np.all(one == again), f"{what}: the same key draws other numbers"
    assert np.all(np.any(one != other, axis=(1, 2, 3, 4))), f"{what}: another key draws the same numbers"
    assert np.any(one[0] != one[1]), f"{what}: two edges draw the same numbers"


def _check_array(what: str, array: Any, shape: tuple[int, ...], dtype: Any) -> None:
    found, right = (array.shape, array.dtype), (shape, jnp.dtype(dtype))
    assert found == right, f"{what}: its output is {found[1]} {found[0]}, not {right[1]} {shape}"


def _close(words: str, found: Any, right: Any, *, rtol: float = 1e-9, atol: float = 1e-10) -> None:
    np.testing.assert_allclose(found, right, rtol=rtol, atol=atol, err_msg=words)
