"""Derivatives of both modes and of all orders against differences, all of a function's in one program."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Function = Callable[..., Any]


def check_derivatives(
    function: Function,
    inputs: tuple[Any, ...],
    *,
    order: int = 2,
    step: float = 6e-6,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> None:
    """Compares tangents with central differences, gradients with tangents, and so on for the derivatives of both.

    Args:
      function: of arrays in float64; it is differentiated in all of them.
      inputs: where.
      order: of the highest derivatives.
      step: length of the differences.
      rtol, atol: tolerances of tangents and of the products of gradients with directions.

    Raises:
      AssertionError: a derivative differs; the message says which.
    """
    draw = np.random.default_rng(0)
    given = list(_directions(function, inputs, draw, order))

    def all_derivatives(directions: Any) -> list[Any]:
        functions = _functions(function, order)
        return [
            _derivatives(each, at, along, cotangent, step)
            for each, (at, along, cotangent) in zip(functions, directions)
        ]

    found = jax.jit(all_derivatives)([directions for _, directions in given])
    for (name, _), (difference, tangent, products) in zip(given, found):
        for one, other in zip(jax.tree.leaves(tangent), jax.tree.leaves(difference), strict=True):
            np.testing.assert_allclose(one, other, rtol=rtol, atol=atol, err_msg=f"tangents of {name}")
        np.testing.assert_allclose(*products, rtol=rtol, atol=atol, err_msg=f"gradients of {name}")


def _forward(function: Function) -> Function:
    return lambda inputs, tangents: jax.jvp(function, inputs, tangents)[1]


def _backward(function: Function) -> Function:
    return lambda inputs, cotangents: jax.vjp(function, *inputs)[1](cotangents)


def _functions(function: Function, order: int) -> Iterator[Function]:
    """The function, and all its derivatives below the order; each is traced once."""
    function = jax.jit(function)
    yield function
    if order > 1:
        yield from _functions(_forward(function), order - 1)
        yield from _functions(_backward(function), order - 1)


def _directions(
    function: Function, inputs: tuple[Any, ...], draw: np.random.Generator, order: int, name: str = "the function"
) -> Iterator[tuple[str, Any]]:
    """Name, inputs, their direction and a cotangent of each of these functions."""

    def like(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape)), tree)

    direction, cotangent = like(inputs), like(jax.eval_shape(function, *inputs))
    yield name, (inputs, direction, cotangent)
    if order > 1:
        yield from _directions(_forward(function), (inputs, like(inputs)), draw, order - 1, f"the tangents of {name}")
        yield from _directions(_backward(function), (inputs, cotangent), draw, order - 1, f"the gradients of {name}")


def _derivatives(function: Function, inputs: Any, direction: Any, cotangent: Any, step: float) -> Any:
    """Difference and tangent along a direction, and two products that agree if the gradient is right."""

    def beside(length: float) -> Any:
        return function(*jax.tree.map(lambda leaf, along: leaf + length * along, inputs, direction))

    difference = jax.tree.map(lambda after, before: (after - before) / (2 * step), beside(step), beside(-step))
    tangent = jax.jvp(function, inputs, direction)[1]
    gradient = jax.vjp(function, *inputs)[1](cotangent)
    return difference, tangent, (_product(gradient, direction), _product(cotangent, difference))


def _product(one: Any, other: Any) -> jax.Array:
    products = jax.tree.map(jnp.vdot, one, other)
    return jnp.sum(jnp.stack(jax.tree.leaves(products)))
