"""Whether a function can be differentiated in forward mode."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def has_forward_mode(function: Callable, *args: Any) -> bool:
    """Whether nothing in a function has a derivative that is written for reverse mode alone (`jax.custom_vjp`).

    The function is traced, not run.

    Args:
      function: a function of pytrees of arrays.
      *args: what it is given.
    """
    return not any("custom_vjp" in equation.primitive.name for equation in _equations(jax.make_jaxpr(function)(*args)))


def _equations(jaxpr: ClosedJaxpr | Jaxpr) -> Iterator[JaxprEqn]:
    for equation in jaxpr.eqns:
        yield equation
        for leaf in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(leaf):
                yield from _equations(leaf)


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, ClosedJaxpr | Jaxpr)
