"""Tangents of results of primitives."""

from collections.abc import Callable
from typing import Any

import jax

from jdarts.xla.jax_compat import Primitive, Zero, primitive_jvps


def zero_tangent(out: Any) -> Zero:
    """The zero tangent of a result."""
    return Zero(jax.typeof(out).to_tangent_aval())


def define_jvp_by(primitive: Primitive, function: Callable[..., Any]) -> None:
    """Differentiates a primitive with several results as a function of arrays that computes the same.

    Args:
      primitive: the primitive.
      function: takes its operands and parameters; has derivatives in both modes.
    """

    def jvp(primals: Any, tangents: Any, **params: Any) -> Any:
        active = [n for n, tangent in enumerate(tangents) if not isinstance(tangent, Zero)]

        def of_active(*arguments: Any) -> Any:
            known = dict(zip(active, arguments))
            return function(*(known.get(n, primal) for n, primal in enumerate(primals)), **params)

        _, out_tangents = jax.jvp(of_active, [primals[n] for n in active], [tangents[n] for n in active])
        return primitive.bind(*primals, **params), out_tangents

    primitive_jvps[primitive] = jvp
