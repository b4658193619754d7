"""Pools of stacked images: 3×3 ones with padding 1 and stride 1 or 2, and the 2×2 maximum.

The 3×3 maximum is three primitives: `max_pool` also gives the place of the largest of a window's nine pixels; two functions,
linear in their image and each other's transposes, use that place:

    max_pool       M(x) → y, places     derivative: G(dx, places)
    pool_gather    G(x, places) → y     transpose in x: S(y, places)
    pool_scatter   S(y, places) → x     transpose in y: G(x, places)

The mean is two primitives, linear and each other's transposes. They are a depthwise convolution and a product with the shares of
pixels; on GPUs one function, on TPUs a sum of shifted images:

    avg_pool       A(x) → y             transpose: B(y)
    avg_pool_back  B(y) → x             transpose: A(x)
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jdarts import native
from jdarts.errors import InputError
from jdarts.ops import pool_tpu_forms
from jdarts.ops.depthwise import depthwise_conv, primitives
from jdarts.ops.depthwise.primitives import equally_varying
from jdarts.ops.pool_windows import WINDOW, shares_of_pixels
from jdarts.xla.batching import batch_by_first_axes
from jdarts.xla.jax_compat import Primitive, Zero, defjvp, primitive_jvps, primitive_transposes
from jdarts.xla.tangents import zero_tangent

max_pool_p = Primitive("max_pool")
max_pool_p.multiple_results = True
pool_gather_p = Primitive("pool_gather")
pool_scatter_p = Primitive("pool_scatter")
avg_pool_p = Primitive("avg_pool")
avg_pool_back_p = Primitive("avg_pool_back")


def max_pool_3x3(x: jax.Array, *, stride: int = 1) -> jax.Array:
    """Maximum over 3×3 windows, padding 1 with −∞; among equals the first in row order gets the gradient.

    Args:
      x: `[S, B, H, W, C]`.
      stride: 1 or 2.

    Returns:
      `[S, B, H', W', C]` with `H' = ceil(H / stride)`.

    Raises:
      InputError: another shape, type or stride.
    """
    return max_pool(x, stride=stride)[0]


def avg_pool_3x3(x: jax.Array, *, stride: int = 1) -> jax.Array:
    """Mean over the pixels of 3×3 windows that lie inside the image (`count_include_pad=False`).

    Args:
      x: `[S, B, H, W, C]`.
      stride: 1 or 2.

    Returns:
      `[S, B, H', W', C]` with `H' = ceil(H / stride)`.

    Raises:
      InputError: another shape, type or stride.
    """
    _check("avg_pool_3x3", x, stride)
    return avg_pool_p.bind(x, stride=stride)


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """Maximum over the 2×2 squares of an image; among equals the first in row order gets the gradient.

    Args:
      x: `[S, B, H, W, C]` with even H and W.

    Returns:
      `[S, B, H/2, W/2, C]`.
    """

    def larger(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where((b > a) | (b != b), b, a)

    rows, columns = x.shape[2] // 2, x.shape[3] // 2
    squares = x.reshape(*x.shape[:2], rows, 2, columns, 2, x.shape[-1])
    top, bottom = (larger(squares[:, :, :, n, :, 0], squares[:, :, :, n, :, 1]) for n in range(2))
    return larger(top, bottom)


def max_pool(x: jax.Array, *, stride: int) -> tuple[jax.Array, jax.Array]:
    """M: the largest pixel of every window and its place, 0 to 8 in row order, as uint8.

    Among equals the first place wins. A NaN wins over everything before it.
    """
    y, places = max_pool_p.bind(x, stride=stride)
    return y, places


def pool_gather(x: jax.Array, places: jax.Array, *, stride: int) -> jax.Array:
    """G: the pixel of x `[S, B, H, W, C]` at the place of every window, `[S, B, H', W', C]`."""
    return pool_gather_p.bind(*equally_varying(x, places), stride=stride)


def pool_scatter(y: jax.Array, places: jax.Array, *, stride: int, height: int, width: int) -> jax.Array:
    """S: for every pixel `[S, B, H, W, C]` the sum of y over the windows whose place it is."""
    return pool_scatter_p.bind(*equally_varying(y, places), stride=stride, height=height, width=width)


def avg_pool_back(y: jax.Array, *, stride: int, height: int, width: int) -> jax.Array:
    """B: for every pixel `[S, B, H, W, C]` the sum of y over its windows, each divided by the window's pixels."""
    return avg_pool_back_p.bind(y, stride=stride, height=height, width=width)


# In operations of JAX, for every backend and floating type.


def _slices(x: jax.Array, axis: int, stride: int, filling: float) -> list[jax.Array]:
    """The three slices of the padded axis that a window reads, first to last."""
    size = x.shape[axis]
    padded = lax.pad(x, jnp.asarray(filling, x.dtype), [(1, 1, 0) if a == axis else (0, 0, 0) for a in range(x.ndim)])
    last = (size - 1) // stride * stride
    return [lax.slice_in_dim(padded, offset, offset + last + 1, stride=stride, axis=axis) for offset in range(WINDOW)]


def _max_pool_in_jnp(x: jax.Array, *, stride: int) -> tuple[jax.Array, jax.Array]:
    """Separably: the largest in each row of three, then the largest of three rows."""

    def largest(values: list[jax.Array], places: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
        best, place = values[0], places[0]
        for value, other in zip(values[1:], places[1:]):
            wins = (value > best) | (value != value)
            best, place = jnp.where(wins, value, best), jnp.where(wins, other, place)
        return best, place

    across = _slices(x, 3, stride, -jnp.inf)
    column = lax.broadcasted_iota(jnp.int32, across[0].shape, 3)
    # The first column inside the image: where all pixels are −∞, no other wins.
    first = jnp.where(column == 0, jnp.uint8(1), jnp.uint8(0))
    best, columns = largest(across, [first, jnp.full_like(first, 1), jnp.full_like(first, 2)])
    down = _slices(best, 2, stride, -jnp.inf)
    rows = _slices(columns, 2, stride, 0)
    first_row = lax.broadcasted_iota(jnp.int32, down[0].shape, 2) == 0
    places = [rows[0], rows[1] + jnp.uint8(WINDOW), rows[2] + jnp.uint8(2 * WINDOW)]
    places[0] = jnp.where(first_row, places[1], places[0])
    return largest(down, places)


def _gather_in_jnp(x: jax.Array, places: jax.Array, *, stride: int) -> jax.Array:
    y = jnp.zeros(places.shape, x.dtype)
    for i, rows in enumerate(_slices(x, 2, stride, 0.0)):
        for j, values in enumerate(_slices(rows, 3, stride, 0.0)):
            y = jnp.where(places == jnp.uint8(i * WINDOW + j), values, y)
    return y


def _scatter_in_jnp(y: jax.Array, places: jax.Array, *, stride: int, height: int, width: int) -> jax.Array:
    # Of its own images on each device: the transpose sums over the devices otherwise.
    x = _type_of(jax.typeof(y), height, width, y.dtype)
    return jax.linear_transpose(partial(_gather_in_jnp, places=places, stride=stride), x)(y)[0]


def _avg_pool_by_convolution(x: jax.Array, *, stride: int) -> jax.Array:
    sums = depthwise_conv(x, _ones(x), stride=stride)
    return sums.reshape(sums.shape[0], *sums.shape[2:]) * shares_of_pixels(x.shape[2], x.shape[3], stride, x.dtype)


def _avg_back_by_convolution(y: jax.Array, *, stride: int, height: int, width: int) -> jax.Array:
    each = (y * shares_of_pixels(height, width, stride, y.dtype)).reshape(y.shape[0], 1, *y.shape[1:])
    return primitives.input_gradient(each, _ones(y), stride=stride, dilation=1, height=height, width=width)


def _ones(images: jax.Array) -> jax.Array:
    return jnp.ones((images.shape[0], 1, WINDOW, WINDOW, images.shape[-1]), images.dtype)


# Shapes and types.


def _check(name: str, x: Any, stride: int) -> None:
    if len(x.shape) != 5 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"{name}: x must be [S, B, H, W, C] of a floating type; got {x.dtype}{list(x.shape)}")
    if min(x.shape[0], *x.shape[2:]) < 1:
        raise InputError(
            f"{name}: there must be at least one source, pixel and channel; got x [S, B, H, W, C] of shape {list(x.shape)}"
        )
    if stride not in (1, 2):
        raise InputError(f"{name}: stride {stride}; give 1 or 2")


def _check_places(name: str, x: tuple[int, ...], y: Any, places: Any, stride: int) -> None:
    expected = (*x[:2], -(-x[2] // stride), -(-x[3] // stride), x[4])
    if places.dtype != np.uint8 or not places.shape == y == expected:
        raise InputError(f"{name}: y and places (uint8) must be {list(expected)}; got {list(y)}, {list(places.shape)}")


def _type_of(images: Any, height: int, width: int, dtype: Any) -> Any:
    """The type of images of another size and another type of numbers, equally sharded."""
    return images.update(
        shape=(*images.shape[:2], height, width, images.shape[4]), dtype=np.dtype(dtype), weak_type=False
    )


@max_pool_p.def_abstract_eval
def _max_pool_aval(x: Any, *, stride: int) -> list[Any]:
    _check("max_pool", x, stride)
    height, width = (-(-size // stride) for size in x.shape[2:4])
    return [_type_of(x, height, width, dtype) for dtype in (x.dtype, np.uint8)]


@pool_gather_p.def_abstract_eval
def _gather_aval(x: Any, places: Any, *, stride: int) -> Any:
    _check("pool_gather", x, stride)
    _check_places("pool_gather", x.shape, places.shape, places, stride)
    return _type_of(x, places.shape[2], places.shape[3], x.dtype)


@pool_scatter_p.def_abstract_eval
def _scatter_aval(y: Any, places: Any, *, stride: int, height: int, width: int) -> Any:
    _check("pool_scatter", y, stride)
    _check_places("pool_scatter", (*y.shape[:2], height, width, y.shape[4]), y.shape, places, stride)
    return _type_of(y, height, width, y.dtype)


@avg_pool_p.def_abstract_eval
def _avg_pool_aval(x: Any, *, stride: int) -> Any:
    _check("avg_pool", x, stride)
    height, width = (-(-size // stride) for size in x.shape[2:4])
    return _type_of(x, height, width, x.dtype)


@avg_pool_back_p.def_abstract_eval
def _avg_back_aval(y: Any, *, stride: int, height: int, width: int) -> Any:
    _check("avg_pool_back", y, stride)
    return _type_of(y, height, width, y.dtype)


# Derivatives.


def _max_pool_jvp(primals: Any, tangents: Any, *, stride: int) -> Any:
    y, places = max_pool(*primals, stride=stride)
    x_tangent = tangents[0]
    if isinstance(x_tangent, Zero):
        return (y, places), (zero_tangent(y), zero_tangent(places))
    return (y, places), (pool_gather(x_tangent, places, stride=stride), zero_tangent(places))


def _gather_transpose(ct: Any, x: Any, places: Any, *, stride: int) -> Any:
    if isinstance(ct, Zero):
        return Zero(x.aval), None
    height, width = x.aval.shape[2:4]
    return pool_scatter(ct, places, stride=stride, height=height, width=width), None


def _scatter_transpose(ct: Any, y: Any, places: Any, *, stride: int, height: int, width: int) -> Any:
    if isinstance(ct, Zero):
        return Zero(y.aval), None
    return pool_gather(ct, places, stride=stride), None


def _avg_pool_transpose(ct: Any, x: Any, *, stride: int) -> Any:
    if isinstance(ct, Zero):
        return (Zero(x.aval),)
    height, width = x.aval.shape[2:4]
    return (avg_pool_back(ct, stride=stride, height=height, width=width),)


def _avg_back_transpose(ct: Any, y: Any, *, stride: int, height: int, width: int) -> Any:
    return (Zero(y.aval) if isinstance(ct, Zero) else avg_pool_p.bind(ct, stride=stride),)


primitive_jvps[max_pool_p] = _max_pool_jvp
defjvp(pool_gather_p, lambda x_tangent, x, places, **params: pool_gather(x_tangent, places, **params), None)
defjvp(pool_scatter_p, lambda x_tangent, y, places, **params: pool_scatter(x_tangent, places, **params), None)
primitive_transposes[pool_gather_p] = _gather_transpose
primitive_transposes[pool_scatter_p] = _scatter_transpose
defjvp(avg_pool_p, lambda x_tangent, x, **params: avg_pool_p.bind(x_tangent, **params))
defjvp(avg_pool_back_p, lambda y_tangent, y, **params: avg_pool_back_p.bind(y_tangent, **params))
primitive_transposes[avg_pool_p] = _avg_pool_transpose
primitive_transposes[avg_pool_back_p] = _avg_back_transpose


# Batching, in which a vmapped axis joins the sources; evaluation and lowering. A convolution is a call already, on CPUs.


_ON_TPUS: dict[Primitive, Callable[..., Any]] = {
    max_pool_p: pool_tpu_forms.max_pool,
    pool_scatter_p: pool_tpu_forms.pool_scatter,
    avg_pool_p: pool_tpu_forms.avg_pool,
    avg_pool_back_p: pool_tpu_forms.avg_pool_back,
}
_ON_CPUS = {primitive: _ON_TPUS[primitive] for primitive in (max_pool_p, pool_scatter_p)}

for _primitive, _function, _statics, _one_call in (
    (max_pool_p, _max_pool_in_jnp, ("stride",), True),
    (pool_gather_p, _gather_in_jnp, ("stride",), True),
    (pool_scatter_p, _scatter_in_jnp, ("stride", "height", "width"), True),
    (avg_pool_p, _avg_pool_by_convolution, ("stride",), False),
    (avg_pool_back_p, _avg_back_by_convolution, ("stride", "height", "width"), False),
):
    batch_by_first_axes(_primitive)
    on = {name: forms[_primitive] for name, forms in (("cpu", _ON_CPUS), ("tpu", _ON_TPUS)) if _primitive in forms}
    native.define_lowering(_primitive, _function, _statics, native_name=_primitive.name, on=on, one_call=_one_call)
