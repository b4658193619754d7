"""Functions without the primitives of jdarts, for programs that know JAX's alone."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jdarts.xla.jax_compat import ClosedJaxpr, Jaxpr, Literal, Primitive, results_of

_NONE: Mapping[Primitive, Callable] = {}
#: Of an array's order of axes in memory, which says nothing of its numbers.
_LAYOUT = "layout_constraint"
#: Primitives that call a program with their operands.
_CALLS = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2")


class _Forms(NamedTuple):
    """Functions that compute the same as a primitive: the usual one, and those of platforms that have their own."""

    usual: Callable
    on: Mapping[str, Callable]


_functions: dict[Primitive, _Forms] = {}


def define_plain(primitive: Primitive, function: Callable, on: Mapping[str, Callable] | None = None) -> None:
    """Names the functions that compute the same as a primitive in operations of JAX; `on` has those for a platform alone."""
    _functions[primitive] = _Forms(function, on or {})


def has_plain_form(primitive: Primitive) -> bool:
    """Whether a primitive has a `define_plain`, as those of jdarts have."""
    return primitive in _functions


def in_operations_of_jax(
    function: Callable, *, platform: str = "", replaced: Mapping[Primitive, Callable] = _NONE
) -> Callable:
    """A function that computes the same without primitives that have a `define_plain`, and without orders of axes in memory.

    Args:
      function: of arrays, to a pytree of arrays.
      platform: whose forms are taken where a primitive has several.
      replaced: functions in the place of other primitives.
    """

    def evaluated(*operands: Any) -> Any:
        program, shapes = jax.make_jaxpr(function, return_shape=True)(*operands)
        forms = {primitive: forms.on.get(platform, forms.usual) for primitive, forms in _functions.items()}
        results = _evaluate(program.jaxpr, program.consts, jax.tree.leaves(operands), {**forms, **replaced})
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return evaluated


def _evaluate(
    program: Jaxpr, constants: Sequence[Any], operands: Sequence[Any], functions: Mapping[Primitive, Callable]
) -> list[Any]:
    values = dict(zip([*program.constvars, *program.invars], [*constants, *operands]))

    def value(each: Any) -> Any:
        return each.val if isinstance(each, Literal) else values[each]

    for equation in program.eqns:
        primitive, inputs = equation.primitive, [value(each) for each in equation.invars]
        if primitive in functions:
            # The function may bind such primitives itself.
            traced = jax.make_jaxpr(functools.partial(functions[primitive], **equation.params))(*inputs)
            results: Sequence[Any] = _evaluate(traced.jaxpr, traced.consts, inputs, functions)
        elif primitive.name in _CALLS:
            called: Any = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
            closed = isinstance(called, ClosedJaxpr)
            results = _evaluate(called.jaxpr if closed else called, called.consts if closed else [], inputs, functions)
        elif primitive.name == _LAYOUT:
            results = inputs
        else:
            results = results_of(equation, inputs)
        values |= zip(equation.outvars, results)
    return [value(each) for each in program.outvars]
