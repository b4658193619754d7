"""Questions about traced functions."""

from collections.abc import Callable, Iterator
from typing import Any

import jax

from jdarts.xla.jax_compat import Jaxpr, JaxprEqn, jaxprs_in_params


def equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """The equations of a traced function, and those of all functions that it calls, in loops and conditionals too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def has_forward_mode(function: Callable, *args: Any) -> bool:
    """Whether a function has a forward mode: nothing in it is a `jax.custom_vjp`, which is for reverse mode alone.

    The function is traced, not run.

    Args:
      function: a function of pytrees of arrays.
      *args: its arguments.
    """
    traced = jax.make_jaxpr(function)(*args).jaxpr
    return not any("custom_vjp" in equation.primitive.name for equation in equations(traced))


def reads(function: Callable, first: Any, *others: Any) -> bool:
    """Whether the results of a function depend on its first argument.

    The function is traced, not run.

    Args:
      function: a function of pytrees of arrays.
      first: its first argument, or the shapes of one.
      *others: further arguments.
    """
    traced = jax.make_jaxpr(function)(first, *others).jaxpr
    given = {id(variable) for variable in traced.invars[: len(jax.tree.leaves(first))]}
    used = [*(variable for equation in traced.eqns for variable in equation.invars), *traced.outvars]
    return any(id(variable) in given for variable in used)
