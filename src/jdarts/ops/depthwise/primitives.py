"""The depthwise convolution, its input gradient and its kernel gradient: three primitives, each bilinear.

Each is the transpose of the others, so that every order and mode of differentiation stays among the three:

    forward          F(x, k) → y    transposes: X(y, k) in x, K(x, y) in k
    input gradient   X(y, k) → x    transposes: F(x, k) in y, K(x, y) in k
    kernel gradient  K(x, y) → k    transposes: X(y, k) in x, F(x, k) in y

The first two add up several terms, each with its images and kernels: the tangent of a convolution, F(dx, k) + F(x, dk), is one
call that writes its maps once. Each may have a gate g of the shape of x, a constant for derivatives: x counts as 0 where g is 0
or below. With x itself as the gate, F is the convolution of a ReLU, and its derivatives have the same gate.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jdarts import native
from jdarts.errors import InputError
from jdarts.ops.depthwise.choice import DEFAULT_FORM, FORMS, Form, named_form
from jdarts.ops.depthwise.kinds import Kind, Kinds, table_of_taps
from jdarts.xla.batching import axis_size, define_batching, merge_axis, split_axis
from jdarts.xla.jax_compat import Primitive, Zero, is_undefined_primal, primitive_jvps, primitive_transposes
from jdarts.xla.outlined import as_call
from jdarts.xla.tangents import zero_tangent

forward_p = Primitive("depthwise_conv")
input_gradient_p = Primitive("depthwise_conv_input_gradient")
kernel_gradient_p = Primitive("depthwise_conv_kernel_gradient")


def forward(x: Any, kernels: Any, *, gate: Any = None, stride: int, dilation: int) -> jax.Array:
    """F: x [S, B, H, W, C], kernels [S, T, k, k, C] → y [S, T, B, H', W', C]."""
    return _bind(forward_p, [x], [kernels], gate, stride=stride, dilation=dilation)


def input_gradient(
    y: Any, kernels: Any, *, gate: Any = None, stride: int, dilation: int, height: int, width: int
) -> jax.Array:
    """X: y [S, T, B, H', W', C], kernels [S, T, k, k, C] → x [S, B, H, W, C]."""
    geometry = {"stride": stride, "dilation": dilation, "height": height, "width": width}
    return _bind(input_gradient_p, [y], [kernels], gate, **geometry)


def kernel_gradient(x: Any, y: Any, *, gate: Any = None, stride: int, dilation: int, size: int) -> jax.Array:
    """K: x [S, B, H, W, C], y [S, T, B, H', W', C] → kernels [S, T, k, k, C]."""
    return _bind(kernel_gradient_p, [x], [y], gate, stride=stride, dilation=dilation, size=size)


def _bind(primitive: Primitive, firsts: Sequence[Any], seconds: Sequence[Any], gate: Any, **geometry: int) -> Any:
    operands = equally_varying(*firsts, *seconds, *(() if gate is None else (gate,)))
    return primitive.bind(*operands, gated=gate is not None, **geometry)


def equally_varying(*operands: Any) -> list[Any]:
    """Inside `shard_map`, marks all operands as varying over the same mesh axes, as `lax` does for its operations."""
    varying = [jax.typeof(a).mat.varying for a in operands]
    together = frozenset().union(*varying)
    return [jax.lax.pcast(a, tuple(sorted(together - own, key=str)), to="varying") for a, own in zip(operands, varying)]


def _parts(operands: Sequence[Any], gated: bool) -> tuple[Sequence[Any], Sequence[Any], Any]:
    """The first and the second factors of the terms, and the gate or None."""
    count = len(operands) // 2
    return operands[:count], operands[count : 2 * count], operands[-1] if gated else None


# Shapes and types.


def _check_geometry(name: str, x: tuple, y: tuple, kernels: tuple, stride: int, dilation: int) -> None:
    """Checks that shapes belong together."""
    if stride not in (1, 2) or dilation not in (1, 2):
        raise InputError(f"{name}: stride and dilation must be 1 or 2, got {stride=} and {dilation=}.")
    if len(kernels) != 5 or kernels[2] != kernels[3] or kernels[2] % 2 == 0:
        raise InputError(f"{name}: kernels must be [S, T, k, k, C] with an odd k, got shape {kernels}.")
    if len(x) != 5:
        raise InputError(f"{name}: x must be [S, B, H, W, C], got shape {x}.")
    if x[2] < 1 or x[3] < 1:
        raise InputError(f"{name}: images must have at least one pixel, got x of shape {x}.")
    if x[0] < 1 or kernels[1] < 1 or x[4] < 1:
        raise InputError(
            f"{name}: there must be at least one source S, target T and channel C, got x of shape {x} and kernels of shape "
            f"{kernels}."
        )
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


def _check_types(name: str, operands: Sequence[Any]) -> None:
    types = [operand.dtype for operand in operands]
    if len(set(types)) != 1 or not jnp.issubdtype(types[0], jnp.floating):
        raise InputError(
            f"{name}: all operands must have the same floating type, got {' and '.join(map(str, types))}; "
            "convert with astype."
        )


def _check_gate(name: str, x: tuple, gate: Any) -> None:
    if gate is not None and gate.shape != x:
        raise InputError(f"{name}: a gate must have the shape {x} of x, got {gate.shape}.")


def _forward_check(x: Any, kernels: Any, gate: Any, *, stride: int, dilation: int) -> None:
    fits = len(x.shape) == 5 and len(kernels.shape) == 5 and stride > 0
    y = output_shape(x.shape, kernels.shape, stride) if fits else ()
    _check_geometry("depthwise_conv", x.shape, y, kernels.shape, stride, dilation)
    _check_gate("depthwise_conv", x.shape, gate)


def _input_gradient_check(
    y: Any, kernels: Any, gate: Any, *, stride: int, dilation: int, height: int, width: int
) -> None:
    x = (y.shape[0], y.shape[2], height, width, y.shape[5]) if len(y.shape) == 6 else ()
    _check_geometry("depthwise input_gradient", x, y.shape, kernels.shape, stride, dilation)
    _check_gate("depthwise input_gradient", x, gate)


def _kernel_gradient_check(x: Any, y: Any, gate: Any, *, stride: int, dilation: int, size: int) -> None:
    kernels = (*y.shape[:2], size, size, y.shape[-1])
    _check_geometry("depthwise kernel_gradient", x.shape, y.shape, kernels, stride, dilation)
    _check_gate("depthwise kernel_gradient", x.shape, gate)


@lru_cache(maxsize=1024)
def out_avals(function: Callable, operands: tuple[Any, ...], params: tuple[tuple[str, Any], ...]) -> Any:
    """Shapes, types, shardings and varying mesh axes of a function's results; each function is traced once."""
    return jax.make_jaxpr(partial(function, **dict(params)))(*operands).out_avals


def _define_aval(primitive: Primitive, check: Callable, function: Callable) -> None:
    """Shape, type, sharding and varying mesh axes of the result are those of a form in operations of JAX.

    They are those of kernels of one tap, which take the fewest operations.
    """

    def rule(*operands: Any, gated: bool, **geometry: int) -> Any:
        _check_types(primitive.name, operands)
        firsts, seconds, gate = _parts(operands, gated)
        for pair in zip(firsts, seconds, strict=True):
            check(*pair, gate, **geometry)
        params = {**geometry, "dilation": 1, "gated": gated}
        if "size" in geometry:
            return _with_size(out_avals(function, operands, tuple((params | {"size": 1}).items()))[0], geometry["size"])
        of_one_tap = (*firsts, *(_with_size(kernels, 1) for kernels in seconds), *operands[2 * len(firsts) :])
        return out_avals(function, of_one_tap, tuple(params.items()))[0]

    primitive.def_abstract_eval(rule)


def _with_size(kernels: Any, size: int) -> Any:
    """The type of kernels [S, T, k, k, C] of another size k."""
    return kernels.update(shape=(*kernels.shape[:2], size, size, kernels.shape[4]))


# In operations of JAX.


def _open(gate: Any, x: jax.Array) -> jax.Array:
    """x where the gate is open, else 0. A gate of NaN is open."""
    return x if gate is None else lax.select(gate <= 0, jnp.zeros_like(x), x)


def _forward_in(form: Form, *operands: Any, gated: bool, stride: int, dilation: int) -> jax.Array:
    xs, kernels, gate = _parts(operands, gated)
    pairs = [(_open(gate, x)[None], _taps(form, k)) for x, k in zip(xs, kernels)]
    return form.forward(pairs, kinds=_kinds(kernels[0].shape[2], dilation), stride=stride)[0]


def _input_gradient_in(form: Form, *operands: Any, gated: bool, dilation: int, **geometry: int) -> jax.Array:
    ys, kernels, gate = _parts(operands, gated)
    pairs = [(y[None], _taps(form, k)) for y, k in zip(ys, kernels)]
    kinds = _kinds(kernels[0].shape[2], dilation)
    return _open(gate, form.input_gradient(pairs, kinds=kinds, shared=True, **geometry)[0])


def _kernel_gradient_in(form: Form, *operands: Any, gated: bool, stride: int, dilation: int, size: int) -> jax.Array:
    (x,), (y,), gate = _parts(operands, gated)
    taps = form.kernel_gradient([(_open(gate, x)[None], y[None])], kinds=_kinds(size, dilation), stride=stride)
    if form is FORMS["tpu"]:
        sources, targets, channels = taps.shape[1:]
        edges = jnp.moveaxis(taps.reshape(size**2, sources * targets, channels), 0, 1)
        return edges.reshape(sources, targets, size, size, channels)
    return jnp.moveaxis(taps, 0, 2).reshape(*taps.shape[1:3], size, size, taps.shape[3])


def _taps(form: Form, kernels: jax.Array) -> jax.Array:
    """`table_of_taps` of one kind; for TPUs sources and targets stay one axis, whose parts would lie in other tiles."""
    if form is not FORMS["tpu"]:
        return table_of_taps([kernels])
    sources, targets, size, _, channels = kernels.shape
    edges = jnp.moveaxis(kernels.reshape(sources * targets, size**2, channels), 1, 0)
    return edges.reshape(size**2, sources, targets, channels)


def _term_by_term(in_form: Callable[..., jax.Array], statics: Sequence[str]) -> Callable[..., jax.Array]:
    """The sum with a call for each term, for CPUs: sums of one, two and three terms share their kernels."""
    one = as_call(partial(in_form, DEFAULT_FORM), statics)

    def summed(*operands: Any, gated: bool, **geometry: int) -> jax.Array:
        firsts, seconds, gate = _parts(operands, gated)
        gates = (gate,) if gated else ()
        terms: list[jax.Array] = [one(*pair, *gates, gated=gated, **geometry) for pair in zip(firsts, seconds)]
        return sum(terms[1:], terms[0])

    return summed


def _kinds(size: int, dilation: int) -> Kinds:
    return (Kind(size, dilation),)


_define_aval(forward_p, _forward_check, partial(_forward_in, DEFAULT_FORM))
_define_aval(input_gradient_p, _input_gradient_check, partial(_input_gradient_in, DEFAULT_FORM))
_define_aval(kernel_gradient_p, _kernel_gradient_check, partial(_kernel_gradient_in, DEFAULT_FORM))


# Derivatives.


def tangent_pairs(
    firsts: Sequence[Any], seconds: Sequence[Any], of_firsts: Sequence[Any], of_seconds: Sequence[Any]
) -> list[tuple[Any, Any]]:
    """Both factors of each term in the tangent of a sum of products; `of_` are the tangents of the factors."""
    return [
        pair
        for a, b, of_a, of_b in zip(firsts, seconds, of_firsts, of_seconds)
        for pair in ((of_a, b), (a, of_b))
        if not any(isinstance(factor, Zero) for factor in pair)
    ]


def cotangents(
    ct: Any, firsts: Sequence[Any], seconds: Sequence[Any], rules: Sequence[Callable[[Any, Any], Any]]
) -> list[Any]:
    """The cotangents of the first factors of a sum of products and then of the second ones; None for known factors.

    Args:
      ct: cotangent of the sum.
      firsts: the first factor of each term.
      seconds: the second factor of each term.
      rules: transpose one term, given both factors, in the first and in the second.
    """

    def of(pair: tuple[Any, Any], place: int) -> Any:
        if not is_undefined_primal(pair[place]):
            return None
        return Zero(pair[place].aval) if isinstance(ct, Zero) else rules[place](*pair)

    return [of(pair, place) for place in (0, 1) for pair in zip(firsts, seconds)]


def _jvp(primitive: Primitive, primals: Any, tangents: Any, *, gated: bool, **params: Any) -> Any:
    firsts, seconds, gate = _parts(primals, gated)
    of_firsts, of_seconds, _ = _parts(tangents, gated)
    out = primitive.bind(*primals, gated=gated, **params)
    pairs = tangent_pairs(firsts, seconds, of_firsts, of_seconds)
    if not pairs:
        return out, zero_tangent(out)
    if primitive is kernel_gradient_p:
        out_tangents = [_bind(primitive, [a], [b], gate, **params) for a, b in pairs]
        return out, sum(out_tangents[1:], out_tangents[0])
    return out, _bind(primitive, [a for a, _ in pairs], [b for _, b in pairs], gate, **params)


def _transpose(
    in_first: Callable, in_second: Callable, ct: Any, *operands: Any, gated: bool, **params: Any
) -> list[Any]:
    """Transposes a sum; `in_first` and `in_second` transpose one term, given its cotangent, both factors and the gate."""
    firsts, seconds, gate = _parts(operands, gated)
    rules = [lambda a, b, rule=rule: rule(ct, a, b, gate, **params) for rule in (in_first, in_second)]
    return [*cotangents(ct, firsts, seconds, rules), *[None] * gated]


def _forward_in_x(ct: Any, x: Any, kernels: Any, gate: Any, **geometry: int) -> jax.Array:
    height, width = x.aval.shape[2:4]
    return _bind(input_gradient_p, [ct], [kernels], gate, height=height, width=width, **geometry)


def _forward_in_kernels(ct: Any, x: Any, kernels: Any, gate: Any, **geometry: int) -> jax.Array:
    return _bind(kernel_gradient_p, [x], [ct], gate, size=kernels.aval.shape[2], **geometry)


def _input_gradient_in_y(
    ct: Any, y: Any, kernels: Any, gate: Any, *, height: int, width: int, **geometry: int
) -> jax.Array:
    return _bind(forward_p, [ct], [kernels], gate, **geometry)


def _input_gradient_in_kernels(
    ct: Any, y: Any, kernels: Any, gate: Any, *, height: int, width: int, **geometry: int
) -> jax.Array:
    return _bind(kernel_gradient_p, [ct], [y], gate, size=kernels.aval.shape[2], **geometry)


def _kernel_gradient_in_x(ct: Any, x: Any, y: Any, gate: Any, *, size: int, **geometry: int) -> jax.Array:
    height, width = x.aval.shape[2:4]
    return _bind(input_gradient_p, [y], [ct], gate, height=height, width=width, **geometry)


def _kernel_gradient_in_y(ct: Any, x: Any, y: Any, gate: Any, *, size: int, **geometry: int) -> jax.Array:
    return _bind(forward_p, [x], [ct], gate, **geometry)


for _primitive, _in_first, _in_second in (
    (forward_p, _forward_in_x, _forward_in_kernels),
    (input_gradient_p, _input_gradient_in_y, _input_gradient_in_kernels),
    (kernel_gradient_p, _kernel_gradient_in_x, _kernel_gradient_in_y),
):
    primitive_jvps[_primitive] = partial(_jvp, _primitive)
    primitive_transposes[_primitive] = partial(_transpose, _in_first, _in_second)


# Batching. The result has the images B and the targets T of an operand, unless the function sums over them. A vmapped
# axis of some operands joins such a shared axis, if there is one; otherwise the sources S.

# The axes of images and of targets of each array; None if it has none.
_AXES: Mapping[str, tuple[int | None, int | None]] = MappingProxyType({"x": (1, None), "k": (None, 1), "y": (2, 1)})


def _define_batching(primitive: Primitive, first: str, second: str, result: str) -> None:
    def rule(operands: Any, dims: Any, *, gated: bool, **params: int) -> tuple[jax.Array, int]:
        count = axis_size(operands, dims)
        terms = len(operands) // 2
        names = [first] * terms + [second] * terms + ["x"] * gated
        mapped = {name for name, d in zip(names, dims) if d is not None}

        def joined(axes: Mapping[str, int], out: int) -> tuple[jax.Array, int]:
            joint = [
                merge_axis(a, d, count, axes[name]) if name in axes else a for a, d, name in zip(operands, dims, names)
            ]
            return split_axis(primitive.bind(*joint, gated=gated, **params), count, out), out

        for kind in (0, 1):
            axes = {name: axis for name in names if (axis := _AXES[name][kind]) is not None}
            out = _AXES[result][kind]
            # Arrays without the axis serve all its elements, so they must not be mapped.
            if out is not None and mapped <= axes.keys():
                return joined(axes, out)
        return joined(dict.fromkeys(names, 0), 0)

    define_batching(primitive, rule)


_define_batching(forward_p, "x", "k", "y")
_define_batching(input_gradient_p, "y", "k", "x")
_define_batching(kernel_gradient_p, "x", "y", "k")


# Evaluation and lowering.


def _named(in_form: Callable[..., jax.Array], platform: str | None) -> Callable[..., jax.Array] | None:
    form = named_form(str(platform))
    return form and partial(in_form, form)


for _primitive, _name, _in_form, _statics in (
    (forward_p, "forward", _forward_in, ()),
    (input_gradient_p, "input_gradient", _input_gradient_in, ("height", "width")),
    (kernel_gradient_p, "kernel_gradient", _kernel_gradient_in, ("size",)),
):
    _parameters = ("gated", "stride", "dilation", *_statics)
    native.define_lowering(
        _primitive,
        partial(_in_form, DEFAULT_FORM),
        _parameters,
        native_name=f"depthwise_{_name}",
        on={platform: partial(_in_form, form) for platform, form in FORMS.items()}
        | {"cpu": _term_by_term(_in_form, _parameters)},
        named=partial(_named, _in_form),
        one_call=False,
    )
