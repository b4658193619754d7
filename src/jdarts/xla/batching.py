"""Batching rules: a vmapped axis joins another axis of the array, so that a batched primitive stays a single call."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jdarts.xla.jax_compat import Primitive, primitive_batchers


def axis_size(operands: Sequence[Any], axes: Sequence[int | None]) -> int:
    """The length of the vmapped axis of those arrays that have one."""
    return next(a.shape[axis] for a, axis in zip(operands, axes) if axis is not None)


def axis_first(a: Any, mapped: int | None, count: int) -> jax.Array:
    """The array with its vmapped axis first; repeated `count` times if it has none."""
    return jnp.broadcast_to(a, (count, *a.shape)) if mapped is None else jnp.moveaxis(a, mapped, 0)


def map_in_turn(bind: Callable[..., Any], operands: Sequence[Any], axes: Sequence[int | None]) -> Any:
    """Binds a primitive for the elements of the vmapped axis one after another, for primitives that keep all cores busy.

    The axis is the first one of the results.
    """
    count = axis_size(operands, axes)
    return jax.lax.map(
        lambda element: bind(*element), tuple(axis_first(a, axis, count) for a, axis in zip(operands, axes))
    )


def define_batching(primitive: Primitive, rule: Callable[..., tuple[Any, Any]]) -> None:
    """Batches a primitive by a rule for a vmapped axis of length 1 or more; for one of length 0 the results are empty.

    Args:
      primitive: the primitive.
      rule: takes operands, their vmapped axes and the parameters; returns the results and their vmapped axes.
    """

    def batched(operands: Sequence[Any], axes: Sequence[int | None], **params: Any) -> tuple[Any, Any]:
        if axis_size(operands, axes):
            return rule(operands, axes, **params)
        without = [a if axis is None else _without_axis(a, axis) for a, axis in zip(operands, axes)]
        shapes = jax.eval_shape(lambda *given: primitive.bind(*given, **params), *without)
        outs = jax.tree.map(lambda shape: jnp.zeros((0, *shape.shape), shape.dtype), shapes)
        return outs, [0] * len(outs) if primitive.multiple_results else 0

    primitive_batchers[primitive] = batched


def _without_axis(a: Any, axis: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((*a.shape[:axis], *a.shape[axis + 1 :]), a.dtype)


def batch_by_first_axes(primitive: Primitive) -> None:
    """Batches a primitive by joining the vmapped axis with the first axis of every operand and result, as the slower one."""

    def rule(operands: Sequence[Any], axes: Sequence[int | None], **params: Any) -> tuple[Any, Any]:
        count = axis_size(operands, axes)
        out = primitive.bind(*(merge_axis(a, axis, count, 0) for a, axis in zip(operands, axes)), **params)
        if primitive.multiple_results:
            return [split_axis(a, count, 0) for a in out], [0] * len(out)
        return split_axis(out, count, 0), 0

    define_batching(primitive, rule)


def merge_axis(a: Any, mapped: int | None, count: int, axis: int) -> jax.Array:
    """The vmapped axis of `a` joined, as the slower one, with what is then axis number `axis`.

    Args:
      a: an array.
      mapped: its vmapped axis; None where all elements of the axis share the array.
      count: length of the vmapped axis.
      axis: the axis to join, as numbered without the vmapped one.
    """
    a = jnp.moveaxis(axis_first(a, mapped, count), 0, axis)
    return a.reshape(*a.shape[:axis], a.shape[axis] * a.shape[axis + 1], *a.shape[axis + 2 :])


def split_axis(a: jax.Array, count: int, axis: int) -> jax.Array:
    """Reverses `merge_axis`: the vmapped axis is axis number `axis` of the result."""
    return a.reshape(*a.shape[:axis], count, a.shape[axis] // count, *a.shape[axis + 1 :])
