"""The lowering of primitives to native functions, where there is one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.native.build import has_compiler
from jdarts.native.gpu import is_emulated
from jdarts.native.gpu_rules import gpu_rule, has_gpu_function
from jdarts.native.libraries import IMAGES, LEAVES, NUMBERS, RECURRENT, is_disabled, register_function, target
from jdarts.xla.jax_compat import (
    LoweringRule,
    LoweringRuleContext,
    Primitive,
    is_for_export,
    is_for_gpus_alone,
    lower_fun,
    platform_of,
    register_lowering,
)
from jdarts.xla.outlined import as_call
from jdarts.xla.plain import define_plain
from jdarts.xla.platform import target_platform


def lowering(function: str, dtype: Any) -> LoweringRule | None:
    """The native lowering rule of a primitive, called with its operands and parameters.

    None if XLA's own operations take its place: for functions of GPUs alone, for other types than float32 and float64, with
    `JDARTS_NATIVE=0` in the environment, and if the function's library cannot be built (which is logged once). Waits for a
    library that is being built.
    """
    dtype = np.dtype(dtype)
    if dtype not in NUMBERS or is_disabled():
        return None
    library = next((name for name, rules in _RULES.items() if function in rules), None)
    return _RULES[library][function] if library and register_function(function, library, dtype) else None


def is_native_here(function: str, dtype: Any) -> bool:
    """Whether programs for the target platform have a native function, for the choice between two forms of a computation."""
    if target_platform() == "gpu":
        return has_gpu_function(function, dtype)
    return target_platform() == "cpu" and lowering(function, dtype) is not None


def is_absent_here(dtype: Any) -> bool:
    """Whether it is known that programs for the target platform, a CPU, have no native functions for a type of numbers.

    The answer does not wait for a library. One that fails to build is not foreseen.
    """
    return target_platform() == "cpu" and (is_disabled() or np.dtype(dtype) not in NUMBERS or not has_compiler())


def define_lowering(
    primitive: Primitive,
    function: Callable,
    statics: tuple[str, ...],
    *,
    native_name: str,
    on: Mapping[str, Callable] | None = None,
    named: Callable[[str | None], Callable | None] = lambda platform: None,
    one_call: bool = True,
) -> None:
    """Evaluates and lowers a primitive: by the native function on a CPU or GPU if possible, else by a function of arrays.

    Programs that `jax.export` exports hold only operations of JAX.

    Args:
      primitive: the primitive; its operands and parameters are those of the function.
      function: computes the same in operations of JAX.
      statics: names of the parameters.
      native_name: the native function that computes the same.
      on: functions that take the place of `function` in programs for one platform alone: cpu, gpu or tpu.
      named: gives the function that the environment names for a platform, in place of all others; None where it names none.
      one_call: whether the operations on a CPU are one call (`as_call`); else the function for CPUs makes calls.
    """

    def bind(*operands: Any, **params: Any) -> Any:
        return primitive.bind(*operands, **params)

    many = primitive.multiple_results
    elsewhere = lower_fun(function, multiple_results=many)
    forms = {"cpu": function, **(on or {})}
    if one_call:
        forms["cpu"] = as_call(forms["cpu"], statics)
    without_native = {name: lower_fun(form, multiple_results=many) for name, form in forms.items()}

    def rule(ctx: LoweringRuleContext, *operands: Any, **params: Any) -> Any:
        platform, chosen = platform_of(ctx), None
        # An exported program may run where there is no native library.
        if not is_for_export(ctx):
            if (form := named(platform)) is not None:
                return lower_fun(form, multiple_results=many)(ctx, *operands, **params)
            if is_for_gpus_alone(ctx) or (platform == "cpu" and is_emulated()):
                chosen = gpu_rule(native_name, ctx, params)
            elif platform == "cpu":
                chosen = _native_rule(native_name, ctx.avals_in)
        return (chosen or without_native.get(str(platform), elsewhere))(ctx, *operands, **params)

    primitive.def_impl(jax.jit(bind, static_argnames=statics))
    register_lowering(primitive, rule)
    define_plain(primitive, function, on)


def _native_rule(function: str, operands: Sequence[Any]) -> LoweringRule | None:
    """The native rule, if all numbers have one type that it supports."""
    types = _number_types(operands)
    return lowering(function, types.pop()) if len(types) == 1 else None


def _number_types(operands: Sequence[Any]) -> set[np.dtype]:
    return {operand.dtype for operand in operands if jnp.issubdtype(operand.dtype, jnp.floating)}


def _target(ctx: LoweringRuleContext, function: str) -> str:
    (dtype,) = _number_types(ctx.avals_in)
    return target(function, dtype)


def _call(ctx: LoweringRuleContext, function: str, *operands: Any, aliases: Any = None, **attributes: Any) -> Any:
    lowered = jax.ffi.ffi_lowering(_target(ctx, function), operand_output_aliases=aliases)
    return lowered(ctx, *operands, **attributes)


def _depthwise(function: str) -> LoweringRule:
    def rule(ctx: LoweringRuleContext, *operands: Any, gated: bool, stride: int, dilation: int, **sizes: int) -> Any:
        return _call(ctx, function, *operands, stride=np.int64(stride), dilation=np.int64(dilation))

    return rule


def _kernel_gradient(
    ctx: LoweringRuleContext, *operands: Any, gated: bool, stride: int, dilation: int, size: int
) -> Any:
    name = _target(ctx, "depthwise_kernel_gradient")

    def gradient(x: jax.Array, y: jax.Array, *gate: jax.Array) -> jax.Array:
        sources, targets, batch, height, _, channels = y.shape
        kernels = jax.ShapeDtypeStruct((sources, targets, size, size, channels), x.dtype)
        partials = jax.ShapeDtypeStruct((_chunks(sources, batch, height), *kernels.shape), x.dtype)
        call = jax.ffi.ffi_call(name, (kernels, partials))
        return call(x, y, *gate, stride=np.int64(stride), dilation=np.int64(dilation))[0]

    return lower_fun(gradient, multiple_results=False)(ctx, *operands)


def _chunks(sources: int, batch: int, height: int) -> int:
    """The number of partial sums of a kernel gradient: enough for 64 threads, whatever their number is."""
    return max(1, min(-(-64 // max(1, sources)), batch * -(-height // 8)))


def _combine(ctx: LoweringRuleContext, *operands: Any, tables: int, routes: Any, sizes: tuple[int, ...]) -> Any:
    name = _target(ctx, "combine")

    def combine(*operands: jax.Array) -> Sequence[jax.Array]:
        outs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in ctx.avals_out]
        weights = operands[0] if tables == 1 else jnp.concatenate(operands[:tables])
        return jax.ffi.ffi_call(name, outs)(weights, *operands[tables:], routes=_flat(routes))

    return lower_fun(combine, multiple_results=True)(ctx, *operands)


def _products(ctx: LoweringRuleContext, *operands: Any, num_x: int, routes: Any) -> Any:
    return _call(ctx, "products", *operands, routes=_flat(routes), num_x=np.int64(num_x))


def _plain(function: str) -> LoweringRule:
    def rule(ctx: LoweringRuleContext, *operands: Any) -> Any:
        return _call(ctx, function, *operands)

    return rule


def _pointwise(ctx: LoweringRuleContext, *operands: Any, sums: tuple[int, ...], transposed: bool) -> Any:
    return _call(ctx, "pointwise", *operands, sums=np.array(sums, np.int64), transposed=np.int64(transposed))


def _separable(function: str) -> LoweringRule:
    def rule(
        ctx: LoweringRuleContext, *operands: Any, terms: Any, gated: bool, stride: int, dilation: int, **sizes: int
    ) -> Any:
        return _call(ctx, function, *operands, terms=_flat(terms), stride=np.int64(stride), dilation=np.int64(dilation))

    return rule


def _separable_pull(ctx: LoweringRuleContext, *operands: Any, stride: int, dilation: int) -> Any:
    return _call(ctx, "separable_pull", *operands, stride=np.int64(stride), dilation=np.int64(dilation))


def _pool(function: str) -> LoweringRule:
    def rule(ctx: LoweringRuleContext, *operands: Any, stride: int, **sizes: int) -> Any:
        return _call(ctx, function, *operands, stride=np.int64(stride))

    return rule


def _in_place(function: str, result: int) -> LoweringRule:
    """A function with a result that reuses the memory of the first operand, if nothing else reads it."""

    def rule(ctx: LoweringRuleContext, *operands: Any) -> Any:
        return _call(ctx, function, *operands, aliases={0: result})

    return rule


def _search_cell(function: str) -> LoweringRule:
    def rule(ctx: LoweringRuleContext, *operands: Any, concat: tuple[int, ...], **needed: bool) -> Any:
        del needed
        return _call(ctx, function, *operands, concat=np.array(concat, np.int64))

    return rule


def _leaves(function: str) -> LoweringRule:
    def rule(ctx: LoweringRuleContext, *operands: Any, mapped: bool, shapes: Any = None) -> Any:
        del shapes
        first: Any = ctx.avals_in[0]
        rows = first.shape[0] if mapped else 1
        return _call(ctx, function, *operands, rows=np.int64(rows))

    return rule


def _flat(routes: Any) -> np.ndarray:
    return np.array(routes, np.int64).reshape(-1)


#: The functions of each library.
_RULES: dict[str, dict[str, LoweringRule]] = {
    IMAGES: {
        "depthwise_forward": _depthwise("depthwise_forward"),
        "depthwise_input_gradient": _depthwise("depthwise_input_gradient"),
        "depthwise_kernel_gradient": _kernel_gradient,
        "combine": _combine,
        "products": _products,
        "moments": _plain("moments"),
        "pointwise": _pointwise,
        "pointwise_gradient": _plain("pointwise_gradient"),
        "separable": _separable("separable"),
        "separable_back": _separable("separable_back"),
        "separable_pull": _separable_pull,
        "max_pool": _pool("max_pool"),
        "pool_gather": _pool("pool_gather"),
        "pool_scatter": _pool("pool_scatter"),
    },
    RECURRENT: {
        "mixed_highway": _plain("mixed_highway"),
        "mixed_highway_backward": _plain("mixed_highway_backward"),
        "mixed_highway_second": _plain("mixed_highway_second"),
        "search_cell": _search_cell("search_cell"),
        "search_cell_backward": _search_cell("search_cell_backward"),
        "search_cell_tangent": _search_cell("search_cell_tangent"),
        "search_cell_backward_tangent": _search_cell("search_cell_backward_tangent"),
        "dropped_product": _plain("dropped_product"),
        "dropped_pull": _plain("dropped_pull"),
        "dropped_outer": _plain("dropped_outer"),
        "word_losses": _in_place("word_losses", 1),
        "word_losses_tangent": _in_place("word_losses_tangent", 1),
        "word_losses_pull": _in_place("word_losses_pull", 0),
    },
    LEAVES: {"join": _leaves("join"), "part": _leaves("part")},
}
