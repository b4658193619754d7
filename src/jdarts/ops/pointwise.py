"""1×1 convolutions of stacked edges: all those of a stage in one call, differentiable to every order and in both modes.

Two primitives, each bilinear and the transpose of the other:

    pointwise            P(x, w) → y = x · w        transposes: P(y, wᵀ) in x, G(x, y) in w
    pointwise gradient   G(x, y) → w = xᵀ · y       transposes: P(y, wᵀ) in x, P(x, w) in y

Each works on several stacks `[E_k, B, H, W, C_k]` at once, one matrix for every edge. Several products may be added up to one
result: the tangent of a product, dx · w + x · dw, is one call that writes its maps once.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jdarts import native
from jdarts.errors import InputError
from jdarts.xla.batching import axis_size, define_batching, merge_axis, split_axis
from jdarts.xla.jax_compat import (
    Primitive,
    Zero,
    add_tangents,
    is_undefined_primal,
    primitive_jvps,
    primitive_transposes,
)
from jdarts.xla.tangents import zero_tangent

pointwise_p = Primitive("pointwise")
pointwise_p.multiple_results = True
pointwise_gradient_p = Primitive("pointwise_gradient")
pointwise_gradient_p.multiple_results = True


def pointwise(
    xs: Sequence[jax.Array], weights: Sequence[jax.Array], *, transposed: bool = False
) -> tuple[jax.Array, ...]:
    """1×1 convolutions: every pixel of an edge times that edge's matrix.

    Args:
      xs: stacks `[E_k, …, C_k]`.
      weights: for each stack `[E_k, C_k, D_k]`.
      transposed: whether the weights are `[E_k, D_k, C_k]`.

    Returns:
      For each stack `[E_k, …, D_k]`.

    Raises:
      InputError: shapes or types do not fit.
    """
    return tuple(pointwise_p.bind(*xs, *weights, sums=tuple(range(len(xs))), transposed=transposed))


def sum_of_products(xs: Sequence[jax.Array], weights: Sequence[jax.Array], *, transposed: bool = False) -> jax.Array:
    """`pointwise` of several stacks, alike but for their channels, added up to one."""
    return pointwise_p.bind(*xs, *weights, sums=(0,) * len(xs), transposed=transposed)[0]


def pointwise_gradient(xs: Sequence[jax.Array], ys: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    """Sums over all pixels of the outer products of two stacks: the transpose of `pointwise` in its weights.

    Args:
      xs: stacks `[E_k, …, C_k]`.
      ys: stacks `[E_k, …, D_k]`.

    Returns:
      For each pair `[E_k, C_k, D_k]`.

    Raises:
      InputError: shapes or types do not fit.
    """
    return tuple(pointwise_gradient_p.bind(*xs, *ys))


def _halves(operands: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """The stacks, and the second factor of each."""
    return operands[: len(operands) // 2], operands[len(operands) // 2 :]


# Shapes and types.


def _check_types(name: str, operands: Sequence[Any]) -> None:
    types = {operand.dtype for operand in operands}
    if len(operands) == 0 or len(types) != 1 or not jnp.issubdtype(operands[0].dtype, jnp.floating):
        shapes = ", ".join(f"{a.dtype}{list(a.shape)}" for a in operands)
        raise InputError(f"{name}: all operands must have one floating type; got {shapes or 'none'}")


@pointwise_p.def_abstract_eval
def _pointwise_shape(*operands: Any, sums: tuple[int, ...], transposed: bool) -> Any:
    """`sums` names the result that each product is added to; results are numbered in the order of their first products."""
    _check_types("pointwise", operands)
    outs: dict[int, Any] = {}
    for x, w, sum_ in zip(*_halves(operands), sums, strict=True):
        channels = w.shape[-1 if transposed else 1] if len(w.shape) == 3 else None
        if len(x.shape) < 2 or (x.shape[0], x.shape[-1]) != (w.shape[0], channels):
            expected = "[E, D, C]" if transposed else "[E, C, D]"
            raise InputError(
                f"pointwise: images {list(x.shape)} are [E, …, C] and need weights {expected}; got {list(w.shape)}"
            )
        out = x.update(shape=(*x.shape[:-1], w.shape[1 if transposed else -1]))
        if outs.setdefault(sum_, out).shape != out.shape:
            raise InputError(f"pointwise: a product {list(out.shape)} cannot be added to {list(outs[sum_].shape)}")
    return list(outs.values())


@pointwise_gradient_p.def_abstract_eval
def _pointwise_gradient_shape(*operands: Any) -> Any:
    _check_types("pointwise_gradient", operands)
    outs = []
    for x, y in zip(*_halves(operands)):
        if len(x.shape) < 2 or x.shape[:-1] != y.shape[:-1]:
            raise InputError(
                f"pointwise_gradient: stacks must be alike in all but the channels; got {list(x.shape)} and {list(y.shape)}"
            )
        outs.append(x.update(shape=(x.shape[0], x.shape[-1], y.shape[-1])))
    return outs


# Derivatives.


def _pointwise_jvp(primals: Any, tangents: Any, *, sums: tuple[int, ...], transposed: bool) -> Any:
    outs = pointwise_p.bind(*primals, sums=sums, transposed=transposed)
    pairs = [
        ((tangents[k], primals[count + k]) if side == 0 else (primals[k], tangents[count + k]), sums[k])
        for count in [len(sums)]
        for k in range(count)
        for side in (0, 1)
        if not isinstance(tangents[side * count + k], Zero)
    ]
    active = sorted({q for _, q in pairs})
    out_tangents = _sums_of_products([pair for pair, _ in pairs], [active.index(q) for _, q in pairs], transposed)
    return outs, [out_tangents[active.index(q)] if q in active else zero_tangent(out) for q, out in enumerate(outs)]


def _sums_of_products(pairs: Sequence[Any], sums: Sequence[int], transposed: bool) -> list[Any]:
    if not pairs:
        return []
    xs, weights = zip(*pairs)
    return pointwise_p.bind(*xs, *weights, sums=tuple(sums), transposed=transposed)


def _pointwise_gradient_jvp(primals: Any, tangents: Any) -> Any:
    outs = pointwise_gradient_p.bind(*primals)
    out_tangents: list[Any] = [zero_tangent(out) for out in outs]
    count = len(outs)
    for side in (0, 1):
        active = [k for k in range(count) if not isinstance(tangents[side * count + k], Zero)]
        if not active:
            continue
        pair = [[primals[n * count + k] for k in active] for n in (0, 1)]
        pair[side] = [tangents[side * count + k] for k in active]
        for k, tangent in zip(active, pointwise_gradient(*pair)):
            out_tangents[k] = add_tangents(out_tangents[k], tangent)
    return outs, out_tangents


def _needed(cts: Sequence[Any], operands: Sequence[Any]) -> list[int]:
    """The indices of operands whose cotangents JAX asks for and whose results have one."""
    pairs = enumerate(zip(cts, operands))
    return [k for k, (ct, a) in pairs if is_undefined_primal(a) and not isinstance(ct, Zero)]


def _picked(needed: Sequence[int], *lists: Sequence[Any]) -> list[list[Any]]:
    return [[values[k] for k in needed] for values in lists]


def _spread(needed: Sequence[int], values: Sequence[Any], count: int) -> list[Any]:
    return [values[needed.index(k)] if k in needed else None for k in range(count)]


def _pointwise_transpose(cts: Any, *operands: Any, sums: tuple[int, ...], transposed: bool) -> Any:
    xs, weights = _halves(operands)
    cts = [cts[q] for q in sums]
    of_x, of_w = _needed(cts, xs), _needed(cts, weights)
    grads = pointwise(*_picked(of_x, cts, weights), transposed=not transposed) if of_x else []
    pair = _picked(of_w, cts, xs) if transposed else _picked(of_w, xs, cts)
    return [
        *_spread(of_x, grads, len(xs)),
        *_spread(of_w, pointwise_gradient(*pair) if of_w else [], len(weights)),
    ]


def _pointwise_gradient_transpose(cts: Any, *operands: Any) -> Any:
    xs, ys = _halves(operands)
    if any(is_undefined_primal(x) for x in xs):
        needed = _needed(cts, xs)
        grads = pointwise(*_picked(needed, ys, cts), transposed=True) if needed else []
        return [*_spread(needed, grads, len(xs)), *[None] * len(ys)]
    needed = _needed(cts, ys)
    grads = pointwise(*_picked(needed, xs, cts)) if needed else []
    return [*[None] * len(xs), *_spread(needed, grads, len(ys))]


primitive_jvps[pointwise_p] = _pointwise_jvp
primitive_jvps[pointwise_gradient_p] = _pointwise_gradient_jvp
primitive_transposes[pointwise_p] = _pointwise_transpose
primitive_transposes[pointwise_gradient_p] = _pointwise_gradient_transpose


# Batching: the vmapped axis joins the edges, as the slower of the two. Where all its elements share the
# matrices, it joins the images.


def _define_batching(primitive: Primitive, shared_matrices: bool) -> None:
    def rule(operands: Any, axes: Any, **params: Any) -> Any:
        count = axis_size(operands, axes)
        images, others = _halves(operands)
        of_images, of_others = _halves(axes)
        shared = shared_matrices and all(axis is None for axis in of_others)
        onto = 1 if shared else 0
        joint = [merge_axis(x, axis, count, onto) for x, axis in zip(images, of_images)]
        joint += others if shared else [merge_axis(a, axis, count, 0) for a, axis in zip(others, of_others)]
        outs = primitive.bind(*joint, **params)
        return [split_axis(out, count, onto) for out in outs], [onto] * len(outs)

    define_batching(primitive, rule)


_define_batching(pointwise_p, shared_matrices=True)
_define_batching(pointwise_gradient_p, shared_matrices=False)


# Evaluation and lowering.


def _pointwise_in_jnp(*operands: jax.Array, sums: tuple[int, ...], transposed: bool) -> list[jax.Array]:
    outs: dict[int, jax.Array] = {}
    for x, w, sum_ in zip(*_halves(operands), sums):
        w = jnp.swapaxes(w, 1, 2) if transposed else w
        product = jnp.matmul(_flat(x), w).reshape(*x.shape[:-1], w.shape[-1])
        outs[sum_] = outs[sum_] + product if sum_ in outs else product
    return list(outs.values())


def _pointwise_gradient_in_jnp(*operands: jax.Array) -> list[jax.Array]:
    return [jnp.matmul(jnp.swapaxes(_flat(x), 1, 2), _flat(y)) for x, y in zip(*_halves(operands))]


def _flat(x: jax.Array) -> jax.Array:
    """`[E, pixels, C]`."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1])


# For TPUs, on which images are the inner axis of maps in memory: pixels joined to one axis would be a copy of every map.


def _pointwise_of_maps(*operands: jax.Array, sums: tuple[int, ...], transposed: bool) -> list[jax.Array]:
    outs: dict[int, jax.Array] = {}
    for x, w, sum_ in zip(*_halves(operands), sums):
        product = jnp.einsum("e...c,edc->e...d" if transposed else "e...c,ecd->e...d", x, w)
        outs[sum_] = outs[sum_] + product if sum_ in outs else product
    return list(outs.values())


def _pointwise_gradient_of_maps(*operands: jax.Array) -> list[jax.Array]:
    return [jnp.einsum("e...c,e...d->ecd", x, y) for x, y in zip(*_halves(operands))]


native.define_lowering(
    pointwise_p,
    _pointwise_in_jnp,
    ("sums", "transposed"),
    native_name="pointwise",
    on={"tpu": _pointwise_of_maps},
)
native.define_lowering(
    pointwise_gradient_p,
    _pointwise_gradient_in_jnp,
    (),
    native_name="pointwise_gradient",
    on={"tpu": _pointwise_gradient_of_maps},
)
