"""The lowering of primitives to native functions for GPUs."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.native.gpu import register_function
from jdarts.xla.jax_compat import LoweringRule, LoweringRuleContext, lower_fun

# As in the sources.
_THREADS = 256
_MOST_TERMS = 8
_MOST_STACKS = 32
_MOST_ROWS = 65535

#: Blocks of a sum over pixels: enough to fill the largest GPUs, which hold four of them and more at a time in each of their 132
#: processors. Blocks of kernel gradients, which need most registers, fit twice.
_BLOCKS, _KERNEL_BLOCKS = 1200, 528

Function = Callable[..., Any]


def gpu_rule(function: str, ctx: LoweringRuleContext, params: Mapping[str, Any]) -> LoweringRule | None:
    """The rule that lowers a primitive to a native function for GPUs.

    None if XLA's own operations take its place: there is no such function, or it has no form for the types or sizes.

    Args:
      function: the native function.
      ctx: of the lowering.
      params: the primitive's parameters.
    """
    make = _FUNCTIONS.get(function)
    operands: Sequence[Any] = ctx.avals_in
    avals = [*operands, *ctx.avals_out]
    maps = [aval.dtype for aval in operands if jnp.issubdtype(aval.dtype, jnp.floating)][-1:]
    empty = [math.prod(aval.shape) == 0 for aval in avals]
    if make is None or not maps or (all(empty) if function in _OF_LEAVES else any(empty)):
        return None
    call = make(ctx.avals_in, ctx.avals_out, **params)
    name = register_function(function, maps[0]) if call is not None else None
    if call is None or name is None:
        return None
    many = len(ctx.avals_out) > 1 or function in _LISTS

    def rule(ctx: LoweringRuleContext, *operands: Any, **params: Any) -> Any:
        def of_arrays(*arrays: jax.Array) -> Any:
            results = call(name, *arrays)
            return results if many else results[0]

        return lower_fun(of_arrays, multiple_results=many)(ctx, *operands)

    return rule


def has_gpu_function(function: str, dtype: Any) -> bool:
    """Whether there is a native function for GPUs of maps of a type, and a library that holds it."""
    return function in _FUNCTIONS and register_function(function, dtype) is not None


def _results(avals: Sequence[Any]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]


def _plain(outs: Sequence[Any], **attributes: int) -> Function:
    shapes, numbers = _results(outs), {name: np.int64(value) for name, value in attributes.items()}
    return lambda name, *arrays: jax.ffi.ffi_call(name, shapes)(*arrays, **numbers)


def _convolution(
    avals: Sequence[Any], outs: Sequence[Any], *, gated: bool, stride: int, dilation: int, **sizes: int
) -> Function | None:
    return _plain(outs, stride=stride, dilation=dilation) if len(avals) // 2 <= _MOST_TERMS else None


def _kernel_gradient(
    avals: Sequence[Any], outs: Sequence[Any], *, gated: bool, stride: int, dilation: int, size: int
) -> Function | None:
    sources, targets, batch, height, width, channels = avals[1].shape
    if size in (3, 5):
        blocks, repetitions = sources * (-(-targets // 2) if size == 3 else targets), batch * height
    else:
        blocks, repetitions = sources * targets * size * size, batch * height * width
    if blocks > _MOST_ROWS:
        return None
    chunks = _chunks(blocks, repetitions, channels, most=_KERNEL_BLOCKS)
    return _with_partials(outs, chunks, (), stride=stride, dilation=dilation)


def _chunks(blocks: int, repetitions: int, channels: int, most: int = _BLOCKS) -> int:
    """Into how many chunks a sum over pixels or rows is cut: each is a block of every sum, and is added up in order.

    Args:
      blocks: the number of sums.
      repetitions: what a block's threads take in turn.
      channels: threads that lie side by side.
      most: blocks in all.
    """
    side_by_side = min(channels, _THREADS)
    blocks *= -(-channels // side_by_side)
    return max(1, min(repetitions // (_THREADS // side_by_side), most // blocks))


def _with_partials(
    outs: Sequence[Any], chunks: int, trailing: tuple[int, ...], table: np.ndarray | None = None, **attributes: int
) -> Function:
    """A function whose last result, which nobody else reads, holds partial sums in the type of sums."""
    wide = jnp.float64 if outs[0].dtype == jnp.float64 else jnp.float32
    partials = jax.ShapeDtypeStruct((chunks, *outs[0].shape, *trailing), wide)
    shapes, numbers = [*_results(outs), partials], {name: np.int64(value) for name, value in attributes.items()}

    def call(name: str, *arrays: jax.Array) -> Sequence[jax.Array]:
        tables = () if table is None else (jnp.asarray(table),)
        return jax.ffi.ffi_call(name, shapes)(*tables, *arrays, **numbers)[:-1]

    return call


def _vectors(channels: int) -> int:
    """Threads that read a pixel's channels."""
    return channels // 4 if channels % 4 == 0 else channels


def _products(avals: Sequence[Any], outs: Sequence[Any], *, num_x: int, routes: Sequence[Any]) -> Function | None:
    if max(num_x, len(avals) - num_x) > _MOST_STACKS or len(routes) > _MOST_ROWS:
        return None
    pixels, channels = math.prod(avals[0].shape[1:-1]), avals[0].shape[-1]
    chunks = _chunks(len(routes), pixels // 8, _vectors(channels))
    return _with_partials(outs, chunks, (), np.array(routes, np.int32), num_x=num_x)


def _moments(avals: Sequence[Any], outs: Sequence[Any]) -> Function | None:
    rows = [(k, i) for k, aval in enumerate(avals) for i in range(aval.shape[0])]
    if len(avals) > _MOST_STACKS or len(rows) > _MOST_ROWS:
        return None
    pixels, channels = math.prod(avals[0].shape[1:-1]), avals[0].shape[-1]
    return _with_partials(outs, _chunks(len(rows), pixels // 8, _vectors(channels)), (2,), np.array(rows, np.int32))


def _combine(
    avals: Sequence[Any], outs: Sequence[Any], *, tables: int, routes: Sequence[Any], sizes: Sequence[int]
) -> Function | None:
    if max(len(avals) - tables, len(sizes)) > _MOST_STACKS or sum(sizes) > _MOST_ROWS:
        return None
    table, shapes = combine_table(routes, sizes), _results(outs)

    def call(name: str, *arrays: jax.Array) -> Sequence[jax.Array]:
        weights = arrays[0] if tables == 1 else jnp.concatenate(arrays[:tables])
        return jax.ffi.ffi_call(name, shapes)(jnp.asarray(table), weights, *arrays[tables:])

    return call


def combine_table(routes: Sequence[tuple[int, int, int, int]], sizes: Sequence[int]) -> np.ndarray:
    """The routes as `combine` reads them: for each row of the results (stack, row, begin, end), then the terms in order.

    Args:
      routes: `(k, i, q, j)`, the number of a route being its row of weights.
      sizes: rows of each result.
    """
    terms: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for r, (k, i, q, j) in enumerate(routes):
        terms.setdefault((q, j), []).append((k, i, r))
    rows, listed = [], []
    for q, size in enumerate(sizes):
        for j in range(size):
            own = terms.get((q, j), [])
            rows.append((q, j, len(listed), len(listed) + len(own)))
            listed += own
    return np.array([*np.ravel(rows), *np.ravel(listed)], np.int32)


def _pool(avals: Sequence[Any], outs: Sequence[Any], *, stride: int, **sizes: int) -> Function | None:
    return _plain(outs, stride=stride)


def _leaves(avals: Sequence[Any], outs: Sequence[Any], *, mapped: bool, shapes: Any = None) -> Function | None:
    del shapes
    rows = avals[0].shape[0] if mapped else 1
    return _plain(outs, rows=rows) if rows <= _MOST_ROWS else None


_FUNCTIONS: Mapping[str, Callable[..., Function | None]] = MappingProxyType(
    {
        "depthwise_forward": _convolution,
        "depthwise_input_gradient": _convolution,
        "depthwise_kernel_gradient": _kernel_gradient,
        "combine": _combine,
        "products": _products,
        "moments": _moments,
        "max_pool": _pool,
        "pool_gather": _pool,
        "pool_scatter": _pool,
        "join": _leaves,
        "part": _leaves,
    }
)
#: Functions whose arrays may be empty.
_OF_LEAVES = frozenset({"join", "part"})
#: Functions of primitives with a list of results, which may have one element.
_LISTS = frozenset({"combine", "moments", "max_pool", "part"})
