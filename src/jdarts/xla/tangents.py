"""Tangents of results of primitives."""

from collections.abc import Callable
from typing import Any

import jax

from jdarts.xla.jax_compat import Primitive, Zero, primitive_jvps


def no_change(out: Any) -> Zero:
    """The tangent of a result that does not change."""
    return Zero(jax.typeof(out).to_tangent_aval())


def define_jvp_by(primitive: Primitive, function: Callable[..., Any]) -> None:
    """Differentiates a primitive with several results as a function of arrays that computes the same.

    Args:
      primitive: the primitive.
      function: takes its operands and parameters; has derivatives in both modes.
    """

    def jvp(primals: Any, tangents: Any, **params: Any) -> Any:
        moving = [n for n, tangent in enumerate(tangents) if not isinstance(tangent, Zero)]

        def of_moving(*arguments: Any) -> Any:
            known = dict(zip(moving, arguments))
            return function(*(known.get(n, primal) for n, primal in enumerate(primals)), **params)

        _, changes = jax.jvp(of_moving, [primals[n] for n in moving], [tangents[n] for n in moving])
        return primitive.bind(*primals, **params), changes

    primitive_jvps[primitive] = jvp
