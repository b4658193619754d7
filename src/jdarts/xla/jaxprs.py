"""Questions about traced functions, and their evaluation by other rules."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from jdarts.xla.jax_compat import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxprs_in_params, results_of


def equations(jaxpr: Jaxpr | ClosedJaxpr) -> Iterator[JaxprEqn]:
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
    return is_differentiable_forward(jax.make_jaxpr(function)(*args))


def is_differentiable_forward(program: Jaxpr | ClosedJaxpr) -> bool:
    """`has_forward_mode` of a traced function."""
    return not any("custom_vjp" in equation.primitive.name for equation in equations(program))


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


def evaluated(traced: ClosedJaxpr, arguments: Sequence[Any], rules: Mapping[str, Callable[..., Any]]) -> list[Any]:
    """Evaluates a traced function with other rules for some of its primitives, in the functions that it calls too.

    Primitives inside loops and conditionals keep their own rules.

    Args:
      traced: the function.
      arguments: arrays, its flat arguments.
      rules: by name of a primitive with one result, a function of its operands.

    Returns:
      The flat results.
    """
    jaxpr = traced.jaxpr
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, traced.consts)) | dict(zip(jaxpr.invars, arguments))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        operands, name = [read(each) for each in equation.invars], equation.primitive.name
        inner = equation.params.get("jaxpr") if name in ("jit", "pjit", "closed_call") else None
        if name in rules:
            results = [rules[name](*operands)]
        elif inner is not None:
            results = evaluated(inner, operands, rules)
        else:
            results = results_of(equation, operands)
        values |= zip(equation.outvars, results)
    return [read(each) for each in jaxpr.outvars]
