"""The leaves of a large pytree as one vector, and back: one call each.

In XLA's own operations, splitting a vector is a kernel for every leaf, and no two are alike since each starts at another offset:
they are hundreds to compile, and a program takes time to load that grows with the square of their number.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts import native
from jdarts.xla.batching import axis_first, axis_size, define_batching, merge_axis, split_axis
from jdarts.xla.jax_compat import Primitive, instantiate_zeros, primitive_jvps, primitive_transposes

# The vector is [rows, n]. With `mapped` the rows are a vmapped axis, the first one of every leaf; otherwise there is one row.
join_p = Primitive("join")
part_p = Primitive("part")
part_p.multiple_results = True

Shape = tuple[int, ...]
#: Arrays that a TPU's program joins at once.
JOINED_AT_ONCE = 24


def join_leaves(leaves: Sequence[jax.Array]) -> jax.Array:
    """All numbers of some arrays in order, as `jnp.concatenate` of the flattened ones.

    Args:
      leaves: arrays of one floating type, at least one.

    Returns:
      A vector.
    """
    return join_p.bind(*leaves, mapped=False).reshape(-1)


def split_leaves(vector: jax.Array, shapes: Sequence[Shape]) -> list[jax.Array]:
    """Reverses `join_leaves`.

    Args:
      vector: as long as all the arrays together.
      shapes: those of the arrays, in order.
    """
    return part_p.bind(vector.reshape(1, -1), shapes=tuple(map(tuple, shapes)), mapped=False)


def _of_shape(like: Any, shape: Shape) -> Any:
    return like.update(shape=shape, sharding=None)


@join_p.def_abstract_eval
def _join_shape(*leaves: Any, mapped: bool) -> Any:
    rows = leaves[0].shape[0] if mapped else 1
    return _of_shape(leaves[0], (rows, sum(math.prod(leaf.shape[mapped:]) for leaf in leaves)))


@part_p.def_abstract_eval
def _part_shape(vector: Any, *, shapes: tuple[Shape, ...], mapped: bool) -> Any:
    return [_of_shape(vector, (*vector.shape[: int(mapped)], *shape)) for shape in shapes]


def _join_jvp(leaves: Any, tangents: Any, *, mapped: bool) -> Any:
    return join_p.bind(*leaves, mapped=mapped), join_p.bind(*map(instantiate_zeros, tangents), mapped=mapped)


def _join_transpose(ct: Any, *leaves: Any, mapped: bool) -> Any:
    return part_p.bind(ct, shapes=tuple(leaf.aval.shape[mapped:] for leaf in leaves), mapped=mapped)


def _part_jvp(vector: Any, tangent: Any, **params: Any) -> Any:
    return part_p.bind(*vector, **params), part_p.bind(*tangent, **params)


def _part_transpose(cts: Any, _: Any, *, shapes: tuple[Shape, ...], mapped: bool) -> Any:
    del shapes
    return [join_p.bind(*map(instantiate_zeros, cts), mapped=mapped)]


def _join_in_jnp(*leaves: jax.Array, mapped: bool) -> jax.Array:
    rows = leaves[0].shape[0] if mapped else 1
    return jnp.concatenate([leaf.reshape(rows, math.prod(leaf.shape[mapped:])) for leaf in leaves], axis=1)


def _join_in_groups(*leaves: jax.Array, mapped: bool) -> jax.Array:
    """`_join_in_jnp` for TPUs, where XLA joins few arrays in one operation and takes an operation for each of many."""
    starts = range(0, len(leaves), JOINED_AT_ONCE)
    joined = [_join_in_jnp(*leaves[start : start + JOINED_AT_ONCE], mapped=mapped) for start in starts]
    return jnp.concatenate(jax.lax.optimization_barrier(joined), axis=1)


def _part_in_jnp(vector: jax.Array, *, shapes: tuple[Shape, ...], mapped: bool) -> list[jax.Array]:
    places = itertools.pairwise(np.cumsum((0, *map(math.prod, shapes))).tolist())
    rows = vector.shape[: int(mapped)]
    return [vector[:, begin:end].reshape(*rows, *shape) for (begin, end), shape in zip(places, shapes)]


def _define_batching(primitive: Primitive, *, takes_leaves: bool) -> None:
    def rule(operands: Sequence[Any], axes: Sequence[int | None], *, mapped: bool, **params: Any) -> tuple[Any, Any]:
        count = axis_size(operands, axes)
        # The vmapped axis joins the rows; of leaves without rows it becomes the axis of rows.
        has_rows = mapped or not takes_leaves
        place = merge_axis if has_rows else lambda a, axis, count, _: axis_first(a, axis, count)
        out = primitive.bind(*(place(a, axis, count, 0) for a, axis in zip(operands, axes)), mapped=True, **params)
        if mapped or takes_leaves:
            out = jax.tree.map(lambda a: split_axis(a, count, 0), out)
        return out, jax.tree.map(lambda _: 0, out)

    define_batching(primitive, rule)


for _primitive, _jvp, _transpose in ((join_p, _join_jvp, _join_transpose), (part_p, _part_jvp, _part_transpose)):
    primitive_jvps[_primitive] = _jvp
    primitive_transposes[_primitive] = _transpose
    _define_batching(_primitive, takes_leaves=_primitive is join_p)

native.define_lowering(join_p, _join_in_jnp, ("mapped",), native_name="join", on={"tpu": _join_in_groups})
native.define_lowering(part_p, _part_in_jnp, ("shapes", "mapped"), native_name="part")
