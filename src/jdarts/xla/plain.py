"""Functions without the primitives of jdarts, for programs that know JAX's alone."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jdarts.xla.jax_compat import ClosedJaxpr, Jaxpr, Literal, Primitive

#: Primitives that call a program with their operands.
_CALLS = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2")
_functions: dict[Primitive, Callable] = {}


def define_plain(primitive: Primitive, function: Callable) -> None:
    """Names the function that computes the same as a primitive in operations of JAX."""
    _functions[primitive] = function


def in_operations_of_jax(function: Callable) -> Callable:
    """A function that computes the same without primitives that have a `define_plain`.

    Args:
      function: of arrays, to a pytree of arrays.
    """

    def evaluated(*operands: Any) -> Any:
        program, shapes = jax.make_jaxpr(function, return_shape=True)(*operands)
        results = _evaluate(program.jaxpr, program.consts, jax.tree.leaves(operands))
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return evaluated


def _evaluate(program: Jaxpr, constants: Sequence[Any], operands: Sequence[Any]) -> list[Any]:
    values = dict(zip([*program.constvars, *program.invars], [*constants, *operands]))

    def value(each: Any) -> Any:
        return each.val if isinstance(each, Literal) else values[each]

    for equation in program.eqns:
        primitive, inputs = equation.primitive, [value(each) for each in equation.invars]
        if primitive in _functions:
            # The function may bind such primitives itself.
            plain = in_operations_of_jax(functools.partial(_functions[primitive], **equation.params))
            results = jax.tree.leaves(plain(*inputs))
        elif primitive.name in _CALLS:
            called: Any = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
            closed = isinstance(called, ClosedJaxpr)
            results = _evaluate(called.jaxpr if closed else called, called.consts if closed else [], inputs)
        else:
            bound = primitive.bind(*inputs, **equation.params)
            results = bound if primitive.multiple_results else [bound]
        values |= zip(equation.outvars, results)
    return [value(each) for each in program.outvars]
