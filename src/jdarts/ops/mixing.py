"""Weighted sums of stacked feature maps along edges, and the per-channel products that are their derivatives.

A mixed cell adds up, for every node, the outputs of all operations on all incoming edges. With x stacked over edges (or
over sources) and one weight per edge and channel,

    mix(x, c)[t] = Σ_{e → t} c[e] · x[source(e)]          dots(x, y)[e] = Σ_{B,H,W} x[source(e)] · y[target(e)].

Both are bilinear and each other's transposes: mix in x is mix along the reversed edges, mix in c is dots, dots in x is mix.
As primitives they can be differentiated in both modes any number of times without leaving the pair.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jdarts.errors import InputError

Route = tuple[int, ...]

mix_p = Primitive("mix")
dots_p = Primitive("dots")


def mix(x: jax.Array, weights: jax.Array, *, sources: Route, targets: Route, size: int) -> jax.Array:
    """Adds up feature maps along edges: `out[t] = Σ_{e: targets[e] = t} weights[e] · x[sources[e]]`.

    Args:
      x: feature maps `[I, …, C]`.
      weights: `[E, C]`, one weight per edge and channel, of the same type as x.
      sources: for each edge the index into x.
      targets: for each edge the index into the result.
      size: length of the result's first axis; targets without an edge are 0.

    Returns:
      `[size, …, C]`.

    Raises:
      InputError: shapes, types or indices do not fit.
    """
    return mix_p.bind(x, weights, sources=tuple(sources), targets=tuple(targets), size=size)


def dots(x: jax.Array, y: jax.Array, *, sources: Route, targets: Route) -> jax.Array:
    """Products of feature maps along edges, per channel: `out[e] = Σ x[sources[e]] · y[targets[e]]` over all but C.

    Args:
      x: feature maps `[I, …, C]`.
      y: feature maps `[J, …, C]`, equal to x in all but the first axis.
      sources: for each edge the index into x.
      targets: for each edge the index into y.

    Returns:
      `[E, C]`.

    Raises:
      InputError: shapes, types or indices do not fit.
    """
    return dots_p.bind(x, y, sources=tuple(sources), targets=tuple(targets))


def _check_types(name: str, a: Any, b: Any) -> None:
    if a.dtype != b.dtype or not jnp.issubdtype(a.dtype, jnp.floating):
        raise InputError(f"{name}: both operands must have one floating type, got {a.dtype} and {b.dtype}")


def _check_route(name: str, what: str, route: Route, size: int) -> None:
    if any(not 0 <= index < size for index in route):
        raise InputError(f"{name}: {what} are {route}; give indices from 0 to {size - 1}")


@mix_p.def_abstract_eval
def _mix_shape(x: Any, weights: Any, *, sources: Route, targets: Route, size: int) -> Any:
    _check_types("mix", x, weights)
    if len(x.shape) < 2 or weights.shape != (len(sources), x.shape[-1]) or len(sources) != len(targets):
        raise InputError(
            f"mix: x {x.shape}, weights {weights.shape}, {len(sources)} sources and {len(targets)} targets do not fit; "
            "weights must be [E, C] with one source and one target each"
        )
    _check_route("mix", "sources", sources, x.shape[0])
    _check_route("mix", "targets", targets, size)
    return jax.core.ShapedArray((size, *x.shape[1:]), x.dtype)


@dots_p.def_abstract_eval
def _dots_shape(x: Any, y: Any, *, sources: Route, targets: Route) -> Any:
    _check_types("dots", x, y)
    if len(x.shape) < 2 or x.shape[1:] != y.shape[1:] or len(sources) != len(targets):
        raise InputError(
            f"dots: x {x.shape}, y {y.shape}, {len(sources)} sources and {len(targets)} targets do not fit; x and y must "
            "agree in all but their first axis, with one source and one target for each edge"
        )
    _check_route("dots", "sources", sources, x.shape[0])
    _check_route("dots", "targets", targets, y.shape[0])
    return jax.core.ShapedArray((len(sources), x.shape[-1]), x.dtype)


def _mix_in_jnp(x: jax.Array, weights: jax.Array, *, sources: Route, targets: Route, size: int) -> jax.Array:
    rank = (1,) * (x.ndim - 2)
    scaled = weights.reshape(len(sources), *rank, -1)
    if sources == targets == tuple(range(size)) and size == x.shape[0]:
        return x * scaled
    results = []
    for target in range(size):
        terms = [scaled[e] * x[sources[e]] for e in range(len(sources)) if targets[e] == target]
        total = terms[0] if terms else jnp.zeros(x.shape[1:], x.dtype)
        for term in terms[1:]:
            total = total + term
        results.append(total)
    return jnp.stack(results)


def _dots_in_jnp(x: jax.Array, y: jax.Array, *, sources: Route, targets: Route) -> jax.Array:
    axes = tuple(range(1, x.ndim - 1))
    if sources == targets == tuple(range(x.shape[0])) and x.shape == y.shape:
        return jnp.sum(x * y, axis=axes)
    products = [jnp.sum(x[s] * y[t], axis=tuple(a - 1 for a in axes)) for s, t in zip(sources, targets)]
    return jnp.stack(products)


def _mix_in_x(ct: Any, x: Any, weights: Any, *, sources: Route, targets: Route, size: int) -> jax.Array:
    return mix(ct, weights, sources=targets, targets=sources, size=x.aval.shape[0])


def _mix_in_weights(ct: Any, x: Any, weights: Any, *, sources: Route, targets: Route, size: int) -> jax.Array:
    return dots(x, ct, sources=sources, targets=targets)


def _dots_in_x(ct: Any, x: Any, y: Any, *, sources: Route, targets: Route) -> jax.Array:
    return mix(y, ct, sources=targets, targets=sources, size=x.aval.shape[0])


def _dots_in_y(ct: Any, x: Any, y: Any, *, sources: Route, targets: Route) -> jax.Array:
    return mix(x, ct, sources=sources, targets=targets, size=y.aval.shape[0])


ad.defbilinear(mix_p, _mix_in_x, _mix_in_weights)
ad.defbilinear(dots_p, _dots_in_x, _dots_in_y)


def _repeated(route: Route, count: int, stride: int) -> Route:
    return tuple(lane * stride + index for lane in range(count) for index in route)


def _lanes(operand: jax.Array, axis: int | None, count: int) -> jax.Array:
    """The vmapped axis joined with the first one, as the slower of the two."""
    if axis is None:
        operand = jnp.broadcast_to(operand, (count, *operand.shape))
    else:
        operand = jnp.moveaxis(operand, axis, 0)
    return operand.reshape(-1, *operand.shape[2:])


def _mix_batched(operands: Any, axes: Any, *, sources: Route, targets: Route, size: int) -> tuple[jax.Array, int]:
    count = next(a.shape[axis] for a, axis in zip(operands, axes) if axis is not None)
    x, weights = (_lanes(a, axis, count) for a, axis in zip(operands, axes))
    out = mix(
        x,
        weights,
        sources=_repeated(sources, count, x.shape[0] // count),
        targets=_repeated(targets, count, size),
        size=size * count,
    )
    return out.reshape(count, size, *out.shape[1:]), 0


def _dots_batched(operands: Any, axes: Any, *, sources: Route, targets: Route) -> tuple[jax.Array, int]:
    count = next(a.shape[axis] for a, axis in zip(operands, axes) if axis is not None)
    x, y = (_lanes(a, axis, count) for a, axis in zip(operands, axes))
    out = dots(
        x,
        y,
        sources=_repeated(sources, count, x.shape[0] // count),
        targets=_repeated(targets, count, y.shape[0] // count),
    )
    return out.reshape(count, len(sources), -1), 0


batching.primitive_batchers[mix_p] = _mix_batched
batching.primitive_batchers[dots_p] = _dots_batched

mix_p.def_impl(jax.jit(mix_p.bind, static_argnames=("sources", "targets", "size")))
dots_p.def_impl(jax.jit(dots_p.bind, static_argnames=("sources", "targets")))
mlir.register_lowering(mix_p, mlir.lower_fun(_mix_in_jnp, multiple_results=False))
mlir.register_lowering(dots_p, mlir.lower_fun(_dots_in_jnp, multiple_results=False))
