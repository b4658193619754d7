"""The lowering of primitives to native functions for GPUs."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.native.gpu import register_function
from jdarts.xla.environment import separable_form
from jdarts.xla.jax_compat import LoweringRule, LoweringRuleContext, lower_fun

# As in the sources.
_THREADS = 256
_MOST_TERMS = 8
_MOST_STACKS = 32
_MOST_ROWS = 65535
_ROWS = 4
_STRIPS = 2
_VALUES_BYTES = 16384

#: Blocks of a sum over pixels: enough to fill the largest GPUs, which hold four of them and more at a time in each of their 132
#: processors. Blocks of kernel gradients, which need most registers, fit twice.
_BLOCKS, _KERNEL_BLOCKS = 1200, 528
#: Blocks of a separable convolution: two for each processor, which have as many at a time.
_SEPARABLE_BLOCKS = 264

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
    if function in SEPARABLE and separable_form() == "parts":
        return None
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


def _plain(outs: Sequence[Any], **attributes: Any) -> Function:
    shapes, numbers = _results(outs), _integers(attributes)
    return lambda name, *arrays: jax.ffi.ffi_call(name, shapes)(*arrays, **numbers)


def _integers(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a call: numbers, and arrays of such."""
    return {name: value if isinstance(value, np.ndarray) else np.int64(value) for name, value in attributes.items()}


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
    return _with_partials(outs, (chunks, *outs[0].shape), stride=stride, dilation=dilation)


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
    outs: Sequence[Any], shape: tuple[int, ...], table: np.ndarray | None = None, **attributes: int
) -> Function:
    """A function whose last result, which nobody else reads, holds partial sums in the type of sums."""
    partials = jax.ShapeDtypeStruct(shape, _wide(outs[0].dtype))
    shapes, numbers = [*_results(outs), partials], _integers(attributes)

    def call(name: str, *arrays: jax.Array) -> Sequence[jax.Array]:
        tables = () if table is None else (jnp.asarray(table),)
        return jax.ffi.ffi_call(name, shapes)(*tables, *arrays, **numbers)[:-1]

    return call


def _wide(dtype: Any) -> np.dtype:
    """The type of sums of a type of maps."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def _vectors(channels: int) -> int:
    """Threads that read a pixel's channels."""
    return channels // 4 if channels % 4 == 0 else channels


def _separable(
    avals: Sequence[Any], outs: Sequence[Any], *, terms: Sequence[Any], gated: bool, stride: int, dilation: int
) -> Function | None:
    kernels, y = avals[1 + max(term[0] for term in terms)], outs[0]
    sources, targets, size, _, channels = kernels.shape
    _, batch, height, width, out_channels = y.shape
    if len(terms) > _MOST_TERMS or not _are_separable(size, channels, out_channels, sources):
        return None
    strips = _strips(channels, batch * -(-height // _ROWS) * width, sources * -(-targets // 2), y.dtype)
    if strips == 0:
        return None
    table = np.array(sorted(terms, key=lambda term: term[2]), np.int64).reshape(-1)
    return _plain(outs, terms=table, strips=strips, stride=stride, dilation=dilation)


def _separable_back(
    avals: Sequence[Any],
    outs: Sequence[Any],
    *,
    terms: Sequence[Any],
    gated: bool,
    stride: int,
    dilation: int,
    height: int,
    width: int,
) -> Function | None:
    kernels, out_channels = avals[1 + max(term[0] for term in terms)], avals[0].shape[-1]
    sources, _, size, _, channels = kernels.shape
    if len(terms) > _MOST_TERMS or not _are_separable(size, channels, out_channels, sources):
        return None
    tile = _tile(height, width, channels, dilation * (size - 1), stride, kernels.dtype)
    if tile is None:
        return None
    table = np.array(sorted(terms, key=lambda term: term[1]), np.int64).reshape(-1)
    return _plain(outs, terms=table, stride=stride, dilation=dilation, tile_height=tile[0], tile_width=tile[1])


def _separable_pull(avals: Sequence[Any], outs: Sequence[Any], *, stride: int, dilation: int) -> Function | None:
    x, kernels, _, y, *_ = avals
    _, _, size, _, channels = kernels.shape
    edges, batch, out_height, out_width, out_channels = y.shape
    if not _are_separable(size, channels, out_channels, edges) or size * (channels // 4) > _THREADS:
        return None
    tile = _tile(x.shape[2], x.shape[3], channels, dilation * (size - 1), stride, x.dtype)
    all_strips = batch * -(-out_height // _ROWS) * out_width
    strips = _strips(channels, all_strips, edges, x.dtype)
    if tile is None or strips == 0:
        return None
    chunks = max(1, min(-(-all_strips // strips), _SEPARABLE_BLOCKS // edges))
    numbers = {"stride": stride, "dilation": dilation, "strips": strips, "tile_height": tile[0], "tile_width": tile[1]}
    return _with_partials(outs, (chunks, edges * channels * (size * size + out_channels)), None, **numbers)


def _are_separable(size: int, channels: int, out_channels: int, rows: int) -> bool:
    """Whether there are functions of separable convolutions for a kernel's size and numbers of channels."""
    return size in (3, 5) and channels % 4 == 0 and out_channels % 4 == 0 and rows <= _MOST_ROWS


def _strips(channels: int, count: int, rows: int, dtype: Any) -> int:
    """Strips of a block of a separable convolution: as many as its memory holds, fewer where half of a GPU would have none.

    Args:
      channels: of the images.
      count: strips of all images of a source.
      rows: blocks for the same strips.
      dtype: of the maps.
    """
    strips = min(64, _VALUES_BYTES // _wide(dtype).itemsize // (_ROWS * channels))
    while strips > 8 and -(-count // strips) * rows <= _SEPARABLE_BLOCKS // 4:
        strips //= 2
    return strips


def _tile(height: int, width: int, channels: int, reach: int, stride: int, dtype: Any) -> tuple[int, int] | None:
    """Height and width of the images that a block of a separable convolution's gradient computes; None where no tile fits.

    Args:
      height: of the images.
      width: of the images.
      channels: of the images.
      reach: pixels between the first and the last that a kernel reads in a row.
      stride: of the convolution.
      dtype: of the maps.
    """
    rows, columns = _ROWS * -(-height // _ROWS), width
    values = 3 * _VALUES_BYTES // _wide(dtype).itemsize

    def reached(count: int, all_of_them: int) -> int:
        return min(-(-all_of_them // stride), (count - 1 + reach) // stride + 1)

    def fits() -> bool:
        strips = rows // _ROWS * columns * (channels // 4)
        return strips <= _STRIPS * _THREADS and reached(rows, height) * reached(columns, width) * channels <= values

    while not fits():
        if rows > 2 * _ROWS or (columns <= 8 and rows > _ROWS):
            rows -= _ROWS
        elif columns > 1:
            columns = -(-columns // 2)
        else:
            return None
    equal = -(-height // -(-height // rows))
    return _ROWS * -(-equal // _ROWS), columns


def _products(avals: Sequence[Any], outs: Sequence[Any], *, num_x: int, routes: Sequence[Any]) -> Function | None:
    if max(num_x, len(avals) - num_x) > _MOST_STACKS or len(routes) > _MOST_ROWS:
        return None
    pixels, channels = math.prod(avals[0].shape[1:-1]), avals[0].shape[-1]
    chunks = _chunks(len(routes), pixels // 8, _vectors(channels))
    return _with_partials(outs, (chunks, *outs[0].shape), np.array(routes, np.int32), num_x=num_x)


def _moments(avals: Sequence[Any], outs: Sequence[Any]) -> Function | None:
    found = _rows_and_chunks(avals)
    return None if found is None else _with_partials(outs, (found[1], *outs[0].shape, 2), found[0])


def _running_moments(avals: Sequence[Any], outs: Sequence[Any], *, momentum: float) -> Function | None:
    """The running statistics, which are the first two operands, move in place."""
    found = _rows_and_chunks(avals[2:])
    if found is None:
        return None
    table, chunks = found
    shapes = [*_results(outs), jax.ShapeDtypeStruct((chunks, *outs[0].shape, 2), outs[0].dtype)]

    def call(name: str, *arrays: jax.Array) -> Sequence[jax.Array]:
        bound = jax.ffi.ffi_call(name, shapes, input_output_aliases={1: 2, 2: 3})
        return bound(jnp.asarray(table), *arrays, momentum=np.float64(momentum))[:-1]

    return call


def _rows_and_chunks(stacks: Sequence[Any]) -> tuple[np.ndarray, int] | None:
    """Stack and number of every row of stacks, and the chunks of their moments; None for too many."""
    rows = [(k, i) for k, stack in enumerate(stacks) for i in range(stack.shape[0])]
    if len(stacks) > _MOST_STACKS or len(rows) > _MOST_ROWS:
        return None
    pixels, channels = math.prod(stacks[0].shape[1:-1]), stacks[0].shape[-1]
    return np.array(rows, np.int32), _chunks(len(rows), pixels // 8, _vectors(channels))


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
        "separable": _separable,
        "separable_back": _separable_back,
        "separable_pull": _separable_pull,
        "combine": _combine,
        "products": _products,
        "moments": _moments,
        "running_moments": _running_moments,
        "max_pool": _pool,
        "pool_gather": _pool,
        "pool_scatter": _pool,
        "avg_pool": _pool,
        "avg_pool_back": _pool,
        "join": _leaves,
        "part": _leaves,
    }
)
#: Functions that programs call where the environment asks for them.
SEPARABLE = frozenset({"separable", "separable_back", "separable_pull"})
#: Functions whose arrays may be empty.
_OF_LEAVES = frozenset({"join", "part"})
#: Functions of primitives with a list of results, which may have one element.
_LISTS = frozenset({"combine", "moments", "max_pool", "part"})
