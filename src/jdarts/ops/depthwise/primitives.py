"""The depthwise convolution, its input gradient and its kernel gradient: three primitives, each bilinear.

Each is the transpose of the others, so that every order and mode of differentiation stays among the three:

    forward          F(x, k) → y    transposes: X(y, k) in x, K(x, y) in k
    input gradient   X(y, k) → x    transposes: F(x, k) in y, K(x, y) in k
    kernel gradient  K(x, y) → k    transposes: X(y, k) in x, F(x, k) in y
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from jdarts import native
from jdarts.errors import InputError
from jdarts.ops.depthwise import lax_path

forward_p = Primitive("depthwise_conv")
input_gradient_p = Primitive("depthwise_conv_input_gradient")
kernel_gradient_p = Primitive("depthwise_conv_kernel_gradient")


def forward(x: Any, kernels: Any, *, stride: int, dilation: int) -> jax.Array:
    """F: x [S, B, H, W, C], kernels [S, T, k, k, C] → y [S, T, B, H', W', C]."""
    return forward_p.bind(*equally_varying(x, kernels), stride=stride, dilation=dilation)


def input_gradient(
    y: jax.Array, kernels: jax.Array, *, stride: int, dilation: int, height: int, width: int
) -> jax.Array:
    """X: y [S, T, B, H', W', C], kernels [S, T, k, k, C] → x [S, B, H, W, C]."""
    y, kernels = equally_varying(y, kernels)
    return input_gradient_p.bind(y, kernels, stride=stride, dilation=dilation, height=height, width=width)


def kernel_gradient(x: jax.Array, y: jax.Array, *, stride: int, dilation: int, size: int) -> jax.Array:
    """K: x [S, B, H, W, C], y [S, T, B, H', W', C] → kernels [S, T, k, k, C]."""
    return kernel_gradient_p.bind(*equally_varying(x, y), stride=stride, dilation=dilation, size=size)


def equally_varying(a: Any, b: Any) -> tuple[Any, Any]:
    """Inside `shard_map`, mark both operands as varying over the same mesh axes; `lax` does so by itself."""
    varying_a, varying_b = jax.typeof(a).mat.varying, jax.typeof(b).mat.varying
    return (
        jax.lax.pcast(a, tuple(sorted(varying_b - varying_a, key=str)), to="varying"),
        jax.lax.pcast(b, tuple(sorted(varying_a - varying_b, key=str)), to="varying"),
    )


# Shapes and types.


def _check_geometry(name: str, x: tuple, y: tuple, kernels: tuple, stride: int, dilation: int) -> None:
    """Refuse shapes that do not belong together."""
    if stride not in (1, 2) or dilation not in (1, 2):
        raise InputError(f"{name}: stride and dilation must be 1 or 2, got {stride=} and {dilation=}.")
    if len(kernels) != 5 or kernels[2] != kernels[3] or kernels[2] % 2 == 0:
        raise InputError(f"{name}: kernels must be [S, T, k, k, C] with an odd k, got shape {kernels}.")
    if len(x) != 5:
        raise InputError(f"{name}: x must be [S, B, H, W, C], got shape {x}.")
    if x[2] < 1 or x[3] < 1:
        raise InputError(f"{name}: images must have at least one pixel, got x of shape {x}.")
    if x[0] != kernels[0] or x[4] != kernels[4]:
        raise InputError(
            f"{name}: x and kernels must agree in sources S (first axis) and channels C (last axis), "
            f"got x of shape {x} and kernels of shape {kernels}."
        )
    expected = output_shape(x, kernels, stride)
    if y != expected:
        raise InputError(f"{name}: y must be [S, T, B, H', W', C] = {expected} here, got shape {y}.")


def output_shape(x: tuple[int, ...], kernels: tuple[int, ...], stride: int) -> tuple[int, ...]:
    """Shape of y for x [S, B, H, W, C] and kernels [S, T, k, k, C]."""
    sources, batch, height, width, channels = x
    return sources, kernels[1], batch, -(-height // stride), -(-width // stride), channels


def _check_types(name: str, a: Any, b: Any) -> None:
    if a.dtype != b.dtype or not jnp.issubdtype(a.dtype, jnp.floating):
        raise InputError(
            f"{name}: both operands must have the same floating type, got {a.dtype} and {b.dtype}; "
            "convert one with astype."
        )


def _forward_check(x: Any, kernels: Any, *, stride: int, dilation: int) -> None:
    _check_types("depthwise_conv", x, kernels)
    fits = len(x.shape) == 5 and len(kernels.shape) == 5 and stride > 0
    y = output_shape(x.shape, kernels.shape, stride) if fits else ()
    _check_geometry("depthwise_conv", x.shape, y, kernels.shape, stride, dilation)


def _input_gradient_check(y: Any, kernels: Any, *, stride: int, dilation: int, height: int, width: int) -> None:
    _check_types("depthwise input_gradient", y, kernels)
    x = (y.shape[0], y.shape[2], height, width, y.shape[5]) if len(y.shape) == 6 else ()
    _check_geometry("depthwise input_gradient", x, y.shape, kernels.shape, stride, dilation)


def _kernel_gradient_check(x: Any, y: Any, *, stride: int, dilation: int, size: int) -> None:
    _check_types("depthwise kernel_gradient", x, y)
    kernels = (*y.shape[:2], size, size, y.shape[-1])
    _check_geometry("depthwise kernel_gradient", x.shape, y.shape, kernels, stride, dilation)


@lru_cache(maxsize=1024)
def _lax_aval(function: Callable, a: Any, b: Any, params: tuple[tuple[str, int], ...]) -> Any:
    return jax.make_jaxpr(partial(function, **dict(params)))(a, b).out_avals[0]


def _define_aval(primitive: Primitive, check: Callable, function: Callable) -> None:
    """Shape, type, sharding and varying mesh axes of the result are those of the lax path."""

    def rule(a: Any, b: Any, **params: int) -> Any:
        check(a, b, **params)
        return _lax_aval(function, a, b, tuple(params.items()))

    primitive.def_abstract_eval(rule)


_define_aval(forward_p, _forward_check, lax_path.forward)
_define_aval(input_gradient_p, _input_gradient_check, lax_path.input_gradient)
_define_aval(kernel_gradient_p, _kernel_gradient_check, lax_path.kernel_gradient_on_cpu)


# Derivatives.


def _shape_of(undefined: Any) -> tuple[int, ...]:
    return undefined.aval.shape


def _forward_in_x(ct: Any, x: Any, kernels: Any, **geometry: int) -> jax.Array:
    height, width = _shape_of(x)[2:4]
    return input_gradient(ct, kernels, height=height, width=width, **geometry)


def _forward_in_kernels(ct: Any, x: Any, kernels: Any, **geometry: int) -> jax.Array:
    return kernel_gradient(x, ct, size=_shape_of(kernels)[2], **geometry)


def _input_gradient_in_y(ct: Any, y: Any, kernels: Any, *, height: int, width: int, **geometry: int) -> jax.Array:
    return forward(ct, kernels, **geometry)


def _input_gradient_in_kernels(ct: Any, y: Any, kernels: Any, *, height: int, width: int, **geometry: int) -> jax.Array:
    return kernel_gradient(ct, y, size=_shape_of(kernels)[2], **geometry)


def _kernel_gradient_in_x(ct: Any, x: Any, y: Any, *, size: int, **geometry: int) -> jax.Array:
    height, width = _shape_of(x)[2:4]
    return input_gradient(y, ct, height=height, width=width, **geometry)


def _kernel_gradient_in_y(ct: Any, x: Any, y: Any, *, size: int, **geometry: int) -> jax.Array:
    return forward(x, ct, **geometry)


ad.defbilinear(forward_p, _forward_in_x, _forward_in_kernels)
ad.defbilinear(input_gradient_p, _input_gradient_in_y, _input_gradient_in_kernels)
ad.defbilinear(kernel_gradient_p, _kernel_gradient_in_x, _kernel_gradient_in_y)


# Batching. The result inherits the images B and the targets T of an operand, unless the function sums over
# them. A vmapped axis of one operand joins such an inherited axis, if there is one; otherwise the sources S.


def _merge(a: Any, mapped: int, axis: int) -> jax.Array:
    """The vmapped axis of `a` joined, as the slower one, with what is then axis number `axis`."""
    a = jnp.moveaxis(a, mapped, axis)
    return a.reshape(*a.shape[:axis], a.shape[axis] * a.shape[axis + 1], *a.shape[axis + 2 :])


def _split(a: jax.Array, count: int, axis: int) -> jax.Array:
    return a.reshape(*a.shape[:axis], count, a.shape[axis] // count, *a.shape[axis + 1 :])


def _define_batching(primitive: Primitive, *inherited: tuple[int, int] | None) -> None:
    """`inherited[i]`: an axis of operand i and the axis of the result that it becomes."""

    def rule(operands: Any, dims: Any, **params: int) -> tuple[jax.Array, int]:
        count = next(a.shape[d] for a, d in zip(operands, dims) if d is not None)
        for n in (0, 1):
            axes = inherited[n]
            if dims[1 - n] is None and axes is not None:
                merged = list(operands)
                merged[n] = _merge(operands[n], dims[n], axes[0])
                return _split(primitive.bind(*merged, **params), count, axes[1]), axes[1]
        merged = [
            _merge(jnp.broadcast_to(a, (count, *a.shape)), 0, 0) if d is None else _merge(a, d, 0)
            for a, d in zip(operands, dims)
        ]
        return _split(primitive.bind(*merged, **params), count, 0), 0

    batching.primitive_batchers[primitive] = rule


_define_batching(forward_p, (1, 2), (1, 1))
_define_batching(input_gradient_p, (2, 1), None)
_define_batching(kernel_gradient_p, None, (1, 1))


# Evaluation and lowering.


native.define_lowering(forward_p, lax_path.forward, ("stride", "dilation"), native_name="depthwise_forward")
native.define_lowering(
    input_gradient_p,
    lax_path.input_gradient,
    ("stride", "dilation", "height", "width"),
    native_name="depthwise_input_gradient",
)
native.define_lowering(
    kernel_gradient_p,
    lax_path.kernel_gradient,
    ("stride", "dilation", "size"),
    native_name="depthwise_kernel_gradient",
    on_cpu=lax_path.kernel_gradient_on_cpu,
)
