"""The leaves of a large pytree as one vector, and back: one call each.

In XLA's own operations taking a vector apart is a kernel for every leaf, and since each begins at a place of its own no two are
alike: hundreds to compile, and time to load a program that grows with the square of their number.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts import native
from jdarts.xla.batching import batch_by_first_axes
from jdarts.xla.jax_compat import Primitive, instantiate_zeros, primitive_jvps, primitive_transposes

# On arrays [rows, n], of which a vmapped axis makes more rows.
join_p = Primitive("join")
part_p = Primitive("part")
part_p.multiple_results = True


def join_leaves(leaves: Sequence[jax.Array]) -> jax.Array:
    """All numbers of some arrays in order, as `jnp.concatenate` of the flattened ones.

    Args:
      leaves: arrays of one floating type, at least one.

    Returns:
      A vector.
    """
    return join_p.bind(*(jnp.reshape(leaf, (1, -1)) for leaf in leaves)).reshape(-1)


def split_leaves(vector: jax.Array, shapes: Sequence[tuple[int, ...]]) -> list[jax.Array]:
    """`join_leaves`, taken back.

    Args:
      vector: as long as all the arrays together.
      shapes: those of the arrays, in order.
    """
    rows = part_p.bind(vector.reshape(1, -1), lengths=tuple(map(math.prod, shapes)))
    return [row.reshape(shape) for row, shape in zip(rows, shapes)]


@join_p.def_abstract_eval
def _join_shape(*rows: Any) -> Any:
    return rows[0].update(shape=(rows[0].shape[0], sum(row.shape[1] for row in rows)))


@part_p.def_abstract_eval
def _part_shape(vector: Any, *, lengths: tuple[int, ...]) -> Any:
    return [vector.update(shape=(vector.shape[0], length)) for length in lengths]


def _join_jvp(rows: Any, tangents: Any) -> Any:
    return join_p.bind(*rows), join_p.bind(*map(instantiate_zeros, tangents))


def _join_transpose(ct: Any, *rows: Any) -> Any:
    return part_p.bind(ct, lengths=tuple(row.aval.shape[1] for row in rows))


def _part_jvp(vector: Any, tangent: Any, *, lengths: tuple[int, ...]) -> Any:
    return part_p.bind(*vector, lengths=lengths), part_p.bind(*tangent, lengths=lengths)


def _part_transpose(cts: Any, _: Any, *, lengths: tuple[int, ...]) -> Any:
    del lengths
    return [join_p.bind(*map(instantiate_zeros, cts))]


def _join_in_jnp(*rows: jax.Array) -> jax.Array:
    return jnp.concatenate(rows, axis=1)


def _part_in_jnp(vector: jax.Array, *, lengths: tuple[int, ...]) -> list[jax.Array]:
    return [vector[:, begin:end] for begin, end in itertools.pairwise(np.cumsum((0, *lengths)).tolist())]


for _primitive, _jvp, _transpose in ((join_p, _join_jvp, _join_transpose), (part_p, _part_jvp, _part_transpose)):
    primitive_jvps[_primitive] = _jvp
    primitive_transposes[_primitive] = _transpose
    batch_by_first_axes(_primitive)

native.define_lowering(join_p, _join_in_jnp, (), native_name="join")
native.define_lowering(part_p, _part_in_jnp, ("lengths",), native_name="part")
