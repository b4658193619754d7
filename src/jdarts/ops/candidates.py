"""The candidate operations of a mixed edge, each over a stack of edges at once (reference: paper section 3.1.1).

An operation maps stacked sources to stacked outputs *before* its last batch norm: the mixed cell folds that norm and the
mixture weight into one factor per edge and channel. Weights are stacked over edges, ordered by source, so that `S` sources
with `T` edges each are `E = S·T` edges; an operation whose output does not depend on the target has `E = S`.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jdarts.errors import InputError
from jdarts.ops.pointwise import pointwise
from jdarts.ops.pool import avg_pool_3x3, max_pool_3x3
from jdarts.ops.separable import separable_conv

Weights = Mapping[str, jax.Array]


class WeightShape(NamedTuple):
    """One weight of an operation: its shape per edge, and the fan-in that bounds its initial values."""

    shape: tuple[int, ...]
    fan_in: int


def _no_weights(channels: int) -> Mapping[str, WeightShape]:
    return {}


class Operation(NamedTuple):
    """A candidate operation at one stride.

    Attributes:
      first: `(states, weights) -> [E, B, H', W', C]`, from the sources `[S, B, H, W, C]` up to the first batch norm.
      second: `(x, weights) -> [E, B, H', W', C]`, from the ReLU after the first batch norm up to the second; None for
        an operation that has one batch norm or none.
      weights: shapes of the weights per edge, by name, for `C` channels.
      per_source: whether the output depends on the source alone, so that all edges of a source share it.
      normalised: whether the last part is followed by a batch norm.
    """

    first: Callable[[jax.Array, Weights], jax.Array]
    second: Callable[[jax.Array, Weights], jax.Array] | None = None
    weights: Callable[[int], Mapping[str, WeightShape]] = _no_weights
    per_source: bool = False
    normalised: bool = True


class Begun(NamedTuple):
    """An operation that has been given its sources.

    Attributes:
      operation: the operation.
      weights: its weights, stacked over its edges.
      first: what `Operation.first` has made of the sources.
    """

    operation: Operation
    weights: Weights
    first: jax.Array


def up_to_last_norms(
    begun: Sequence[Begun], normalise: Callable[[list[jax.Array]], Sequence[jax.Array]]
) -> list[jax.Array]:
    """What operations make of their sources before the last batch norm of each, `[E, B, H', W', C]`.

    Args:
      begun: the operations.
      normalise: the batch norms of the operations that have two, after the first part of each.
    """
    stacks = [each.first for each in begun]
    pending = [(n, each.operation.second, each.weights) for n, each in enumerate(begun) if each.operation.second]
    if pending:
        normalised = normalise([stacks[n] for n, _, _ in pending])
        for (n, second, weights), x in zip(pending, normalised):
            stacks[n] = second(x, weights)
    return stacks


def separable(
    x: jax.Array, kernels: jax.Array, matrices: jax.Array, *, stride: int = 1, dilation: int = 1
) -> jax.Array:
    """Separable convolutions of the ReLU of `S` stacked sources with `E = S·T` kernels and matrices: `[E, B, H', W', D]`."""
    sources = x.shape[0]
    kernels = kernels.reshape(sources, -1, *kernels.shape[1:])
    return separable_conv(x, kernels, matrices, stride=stride, dilation=dilation, rectified=True)


def factorized_reduce(x: jax.Array, even: jax.Array, odd: jax.Array) -> jax.Array:
    """Halves the image by two 1×1 convolutions, one on pixels (0, 0), the other on (1, 1) of every 2×2 square.

    Args:
      x: rectified inputs `[E, B, H, W, C]` with even H and W.
      even: `[E, C, D/2]`.
      odd: `[E, C, D/2]`.

    Returns:
      `[E, B, H/2, W/2, D]`.
    """
    return jnp.concatenate(pointwise([x[..., ::2, ::2, :], x[..., 1::2, 1::2, :]], [even, odd]), axis=-1)


def _convolution_weights(size: int, rounds: int) -> Callable[[int], Mapping[str, WeightShape]]:
    def weights(channels: int) -> Mapping[str, WeightShape]:
        shapes = {}
        for number in range(1, rounds + 1):
            # The fan-in of PyTorch 0.3: input channels, not divided by the groups.
            shapes[f"depthwise{number}"] = WeightShape((size, size, channels), channels * size * size)
            shapes[f"pointwise{number}"] = WeightShape((channels, channels), channels)
        return shapes

    return weights


def _separable(size: int, stride: int) -> Operation:
    def first(states: jax.Array, weights: Weights) -> jax.Array:
        return separable(states, weights["depthwise1"], weights["pointwise1"], stride=stride)

    def second(x: jax.Array, weights: Weights) -> jax.Array:
        return separable(x, weights["depthwise2"], weights["pointwise2"])

    return Operation(first, second, _convolution_weights(size, rounds=2))


def _dilated(size: int, stride: int) -> Operation:
    def first(states: jax.Array, weights: Weights) -> jax.Array:
        return separable(states, weights["depthwise1"], weights["pointwise1"], stride=stride, dilation=2)

    return Operation(first, weights=_convolution_weights(size, rounds=1))


def _factorized(size: int, stride: int) -> Operation:
    """A full 1×k convolution, then a full k×1 one, with one batch norm: NASNet's, AmoebaNet's and SETN's."""
    pad = size // 2

    def convolution(x: jax.Array, kernel: jax.Array, axis: int) -> jax.Array:
        window, padding = [1, 1], [(0, 0), (0, 0)]
        window[axis], padding[axis] = stride, (pad, pad)
        kernel = jnp.expand_dims(kernel, 1 - axis)
        return lax.conv_general_dilated(x, kernel, window, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def first(states: jax.Array, weights: Weights) -> jax.Array:
        rectified = jax.nn.relu(states)
        targets = weights["across"].shape[0] // states.shape[0]
        edges = enumerate(zip(weights["across"], weights["down"]))
        rows = [
            convolution(convolution(rectified[edge // targets], across, 1), down, 0) for edge, (across, down) in edges
        ]
        return jnp.stack(rows)

    def shapes(channels: int) -> Mapping[str, WeightShape]:
        kernel = WeightShape((size, channels, channels), channels * size)
        return {"across": kernel, "down": kernel}

    return Operation(first, weights=shapes)


def _pool(pool: Callable[..., jax.Array], stride: int) -> Operation:
    return Operation(lambda states, weights: pool(states, stride=stride), per_source=True)


def _skip(stride: int) -> Operation:
    if stride == 1:
        return Operation(lambda states, weights: states, per_source=True, normalised=False)

    def first(states: jax.Array, weights: Weights) -> jax.Array:
        edges = weights["even"].shape[0]
        x = jnp.repeat(jax.nn.relu(states), edges // states.shape[0], axis=0)
        return factorized_reduce(x, weights["even"], weights["odd"])

    def shapes(channels: int) -> Mapping[str, WeightShape]:
        half = WeightShape((channels, channels // 2), channels)
        return {"even": half, "odd": half}

    return Operation(first, weights=shapes)


#: Candidates by name, each a function of the stride. `none` adds nothing and `noise` needs a key: the cell has them.
CANDIDATES: Mapping[str, Callable[[int], Operation]] = MappingProxyType(
    {
        "max_pool_3x3": lambda stride: _pool(max_pool_3x3, stride),
        "avg_pool_3x3": lambda stride: _pool(avg_pool_3x3, stride),
        "skip_connect": _skip,
        "sep_conv_3x3": lambda stride: _separable(3, stride),
        "sep_conv_5x5": lambda stride: _separable(5, stride),
        "sep_conv_7x7": lambda stride: _separable(7, stride),
        "dil_conv_3x3": lambda stride: _dilated(3, stride),
        "dil_conv_5x5": lambda stride: _dilated(5, stride),
        "conv_7x1_1x7": lambda stride: _factorized(7, stride),
        "conv_3x1_1x3": lambda stride: _factorized(3, stride),
    }
)


def candidate(name: str, stride: int) -> Operation:
    """The candidate operation of this name at stride 1 or 2.

    Raises:
      InputError: an unknown name or another stride.
    """
    if name not in CANDIDATES:
        raise InputError(f"unknown operation {name!r}; known are {', '.join(CANDIDATES)}")
    if stride not in (1, 2):
        raise InputError(f"{name}: stride {stride}; give 1 or 2")
    return CANDIDATES[name](stride)


def initial_weights(
    operation: Operation, key: jax.Array, edges: int, channels: int, dtype: Any
) -> dict[str, jax.Array]:
    """An operation's weights at the start, stacked over its edges: uniform, with PyTorch 0.3's bounds."""
    shapes = operation.weights(channels)
    keys = jax.random.split(key, len(shapes))
    return {
        name: jax.random.uniform(k, (edges, *shape), dtype, -(fan_in**-0.5), fan_in**-0.5)
        for k, (name, (shape, fan_in)) in zip(keys, shapes.items())
    }


def noise(key: jax.Array, states: jax.Array, edges: int, stride: int) -> jax.Array:
    """Standard normal noise in place of an output (RobustDARTS, space S4).

    Args:
      key: for the random numbers.
      states: the sources `[S, B, H, W, C]`, of which only the shape counts.
      edges: number of edges `E`.
      stride: 1 or 2.

    Returns:
      `[E, B, H', W', C]`.
    """
    _, batch, height, width, channels = states.shape
    return jax.random.normal(key, (edges, batch, -(-height // stride), -(-width // stride), channels), states.dtype)
