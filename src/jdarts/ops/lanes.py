"""The lanes of a vmapped axis, joined with an axis that an array has anyway: how batched primitives stay single calls."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching


def lane_count(operands: Sequence[Any], axes: Sequence[int | None]) -> int:
    """The length of the vmapped axis of those arrays that have one."""
    return next(a.shape[axis] for a, axis in zip(operands, axes) if axis is not None)


def spread(a: Any, mapped: int | None, count: int) -> jax.Array:
    """The array with its vmapped axis first; repeated so often where it has none."""
    return jnp.broadcast_to(a, (count, *a.shape)) if mapped is None else jnp.moveaxis(a, mapped, 0)


def in_turn(bind: Callable[..., Any], operands: Sequence[Any], axes: Sequence[int | None]) -> Any:
    """One lane after the other, where each has work enough for all cores; the results have the lanes first."""
    count = lane_count(operands, axes)
    return jax.lax.map(lambda lane: bind(*lane), tuple(spread(a, axis, count) for a, axis in zip(operands, axes)))


def define_batching(primitive: Primitive, rule: Callable[..., tuple[Any, Any]]) -> None:
    """Batches a primitive by a rule for one lane or more; with none, the results are empty.

    Args:
      primitive: the primitive.
      rule: takes operands, their vmapped axes and the parameters; returns the results and their vmapped axes.
    """

    def batched(operands: Sequence[Any], axes: Sequence[int | None], **params: Any) -> tuple[Any, Any]:
        if lane_count(operands, axes):
            return rule(operands, axes, **params)
        lane = [a if axis is None else _without_axis(a, axis) for a, axis in zip(operands, axes)]
        shapes = jax.eval_shape(lambda *given: primitive.bind(*given, **params), *lane)
        outs = jax.tree.map(lambda shape: jnp.zeros((0, *shape.shape), shape.dtype), shapes)
        return outs, [0] * len(outs) if primitive.multiple_results else 0

    batching.primitive_batchers[primitive] = batched


def _without_axis(a: Any, axis: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((*a.shape[:axis], *a.shape[axis + 1 :]), a.dtype)


def join_first_axes(primitive: Primitive) -> None:
    """Batches a primitive by joining the lanes with the first axis of every operand and result, as the slower of the two."""

    def rule(operands: Sequence[Any], axes: Sequence[int | None], **params: Any) -> tuple[Any, Any]:
        count = lane_count(operands, axes)
        out = primitive.bind(*(merged(a, axis, count, 0) for a, axis in zip(operands, axes)), **params)
        if primitive.multiple_results:
            return [split(a, count, 0) for a in out], [0] * len(out)
        return split(out, count, 0), 0

    define_batching(primitive, rule)


def merged(a: Any, mapped: int | None, count: int, axis: int) -> jax.Array:
    """The vmapped axis of `a` joined, as the slower one, with what is then axis number `axis`.

    Args:
      a: an array.
      mapped: its vmapped axis; None where all lanes share it.
      count: number of lanes.
      axis: the axis to join, as numbered without the vmapped one.
    """
    a = jnp.moveaxis(spread(a, mapped, count), 0, axis)
    return a.reshape(*a.shape[:axis], a.shape[axis] * a.shape[axis + 1], *a.shape[axis + 2 :])


def split(a: jax.Array, count: int, axis: int) -> jax.Array:
    """`merged`, taken back: the lanes are axis number `axis`."""
    return a.reshape(*a.shape[:axis], count, a.shape[axis] // count, *a.shape[axis + 1 :])
