"""Batching of primitives whose native functions keep all cores busy."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jdarts.native.rules import is_native_here
from jdarts.xla.batching import define_batching, map_in_turn
from jdarts.xla.jax_compat import Primitive


def batch_in_turn(primitive: Primitive, function: Callable[..., Any]) -> None:
    """Batches a primitive: the native function of its name takes the elements of the vmapped axis one after another.

    Where programs have no native function, `jax.vmap` batches the operations of JAX that take its place: a loop would launch
    their kernels for one element at a time.

    Args:
      primitive: the primitive; its operands and parameters are those of the function.
      function: computes the same in operations of JAX.
    """

    def rule(operands: Sequence[Any], axes: Sequence[int | None], **params: Any) -> tuple[Any, Any]:
        if is_native_here(primitive.name, operands[0].dtype):
            results = map_in_turn(functools.partial(primitive.bind, **params), operands, axes)
        else:
            results = jax.vmap(functools.partial(function, **params), in_axes=tuple(axes))(*operands)
        return results, [0] * len(results) if primitive.multiple_results else 0

    define_batching(primitive, rule)
