"""Depthwise convolutions of several kinds of kernels at once, for devices without native functions: as few kernels as one kind.

Three primitives, each bilinear and the transpose of the others, as in `primitives`, for images `x [G, S, B, H, W, C]` that all
M kinds share (G = 1) or of which each has a row (G = M), and the taps of all kinds as one table `[τ, S, T, C]`:

    forward          F(x, k) → y [M, S, T, B, H', W', C]     transposes: X(y, k) in x, K(x, y) in k
    input gradient   X(y, k) → x                             transposes: F(x, k) in y, K(x, y) in k
    kernel gradient  K(x, y) → k                             transposes: X(y, k) in x, F(x, k) in y

Each adds up several terms, each with both its factors, so that a tangent F(dx, k) + F(x, dk) is one call.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax

from jdarts.ops.depthwise.choice import FORMS, form_of
from jdarts.ops.depthwise.kinds import Kind, Kinds
from jdarts.ops.depthwise.primitives import cotangents, equally_varying, out_avals, tangent_pairs
from jdarts.xla.batching import axis_size, define_batching, merge_axis, split_axis
from jdarts.xla.jax_compat import (
    Primitive,
    lower_fun,
    platform_of,
    primitive_jvps,
    primitive_transposes,
    register_lowering,
)
from jdarts.xla.tangents import zero_tangent

forward_p = Primitive("joint_depthwise")
input_gradient_p = Primitive("joint_depthwise_input_gradient")
kernel_gradient_p = Primitive("joint_depthwise_kernel_gradient")


def forward(x: jax.Array, taps: jax.Array, *, kinds: Sequence[Kind], stride: int) -> jax.Array:
    """F: every source with each of its kernels of every kind, with zeros around the images.

    Args:
      x: images `[G, S, B, H, W, C]`: G = 1 for all kinds, or M, one row for each.
      taps: `table_of_taps` of the kinds' kernels, `[τ, S, T, C]`.
      kinds: the M kinds; those of one size next to each other cost less.
      stride: 1 or 2.

    Returns:
      `[M, S, T, B, H', W', C]` with `H' = ceil(H / stride)`.
    """
    return _bind(forward_p, [x], [taps], kinds=tuple(kinds), stride=stride)


def _bind(primitive: Primitive, firsts: Sequence[Any], seconds: Sequence[Any], **geometry: Any) -> Any:
    return primitive.bind(*equally_varying(*firsts, *seconds), **geometry)


def _halves(operands: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    return operands[: len(operands) // 2], operands[len(operands) // 2 :]


# Derivatives.


def _jvp(primitive: Primitive, primals: Any, tangents: Any, **geometry: Any) -> Any:
    out = primitive.bind(*primals, **geometry)
    pairs = tangent_pairs(*_halves(primals), *_halves(tangents))
    if not pairs:
        return out, zero_tangent(out)
    return out, _bind(primitive, *zip(*pairs), **geometry)


def _transpose(in_first: Callable, in_second: Callable, ct: Any, *operands: Any, **geometry: Any) -> list[Any]:
    """Transposes a sum; `in_first` and `in_second` transpose one term, given its cotangent and both factors."""
    rules = [lambda a, b, rule=rule: rule(ct, a, b, **geometry) for rule in (in_first, in_second)]
    return cotangents(ct, *_halves(operands), rules)


def _of_images(y: Any, taps: Any, x: Any, kinds: Kinds, stride: int) -> Any:
    """X, for images like x."""
    shared, (height, width) = x.aval.shape[0] == 1, x.aval.shape[3:5]
    geometry = {"kinds": kinds, "stride": stride, "height": height, "width": width, "shared": shared}
    return _bind(input_gradient_p, [y], [taps], **geometry)


def _of_taps(x: Any, y: Any, kinds: Kinds, stride: int) -> Any:
    return _bind(kernel_gradient_p, [x], [y], kinds=kinds, stride=stride)


def _of_results(x: Any, taps: Any, kinds: Kinds, stride: int) -> Any:
    return _bind(forward_p, [x], [taps], kinds=kinds, stride=stride)


for _primitive, _in_first, _in_second in (
    (
        forward_p,
        lambda ct, x, taps, kinds, stride: _of_images(ct, taps, x, kinds, stride),
        lambda ct, x, taps, kinds, stride: _of_taps(x, ct, kinds, stride),
    ),
    (
        input_gradient_p,
        lambda ct, y, taps, kinds, stride, **of_images: _of_results(ct, taps, kinds, stride),
        lambda ct, y, taps, kinds, stride, **of_images: _of_taps(ct, y, kinds, stride),
    ),
    (
        kernel_gradient_p,
        lambda ct, x, y, kinds, stride: _of_images(y, ct, x, kinds, stride),
        lambda ct, x, y, kinds, stride: _of_results(x, ct, kinds, stride),
    ),
):
    primitive_jvps[_primitive] = partial(_jvp, _primitive)
    primitive_transposes[_primitive] = partial(_transpose, _in_first, _in_second)


# Batching: the vmapped axis joins the sources.


def _define_batching(primitive: Primitive) -> None:
    def rule(operands: Any, axes: Any, **geometry: Any) -> tuple[jax.Array, int]:
        count = axis_size(operands, axes)
        joint = [merge_axis(a, axis, count, 1) for a, axis in zip(operands, axes)]
        return split_axis(primitive.bind(*joint, **geometry), count, 1), 1

    define_batching(primitive, rule)


# Evaluation and lowering.


def _define(primitive: Primitive, function: str, statics: tuple[str, ...]) -> None:
    """Evaluates and lowers a primitive by the platform's form."""

    def computed(*operands: Any, platform: str | None, **geometry: Any) -> jax.Array:
        pairs = list(zip(*_halves(operands)))
        return getattr(form_of(platform), function)(pairs, **geometry)

    def of_gpus(*operands: Any, **geometry: Any) -> jax.Array:
        return getattr(FORMS["gpu"], function)(list(zip(*_halves(operands))), **geometry)

    def aval(*operands: Any, **geometry: Any) -> Any:
        return out_avals(of_gpus, operands, tuple(geometry.items()))[0]

    def bind(*operands: Any, **geometry: Any) -> Any:
        return primitive.bind(*operands, **geometry)

    def rule(ctx: Any, *operands: Any, **geometry: Any) -> Any:
        form = partial(computed, platform=platform_of(ctx), **geometry)
        return lower_fun(form, multiple_results=False)(ctx, *operands)

    primitive.def_abstract_eval(aval)
    primitive.def_impl(jax.jit(bind, static_argnames=statics))
    register_lowering(primitive, rule)
    _define_batching(primitive)


_define(forward_p, "forward", ("kinds", "stride"))
_define(input_gradient_p, "input_gradient", ("kinds", "stride", "height", "width", "shared"))
_define(kernel_gradient_p, "kernel_gradient", ("kinds", "stride"))
