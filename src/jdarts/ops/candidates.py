"""The computation of the operations of `jdarts.operations`: each over a stack of edges at once (paper section 3.1.1).

An `Implementation` maps stacked sources to stacked outputs *before* its last batch norm: the mixed cell folds that norm and the
mixture weight into one factor per edge and channel. Weights are stacked over edges, ordered by source, so that `S` sources
with `T` edges each are `E = S·T` edges; an operation whose output does not depend on the target has `E = S`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jdarts.errors import InputError
from jdarts.ops.depthwise import joint as joint_depthwise
from jdarts.ops.depthwise.kinds import Kind, table_of_taps
from jdarts.ops.pointwise import pointwise
from jdarts.ops.separable import separable_conv

Weights = Mapping[str, jax.Array]

#: A user's operation on one edge: `(x [B, H, W, C], weights, stride) -> [B, H', W', C]`.
EdgeFunction = Callable[[jax.Array, Weights, int], jax.Array]


class WeightShape(NamedTuple):
    """One weight of an operation: its shape per edge, and the fan-in that bounds its initial values; None for the identity."""

    shape: tuple[int, ...]
    fan_in: int | None


def _no_weights(channels: int) -> Mapping[str, WeightShape]:
    return {}


class Implementation(NamedTuple):
    """An operation at one stride.

    Attributes:
      first: `(states, weights) -> [E, B, H', W', C]`, from the sources `[S, B, H, W, C]` up to the first batch norm; for a random
        operation `(states, weights, key, E)`.
      second: `(x, weights) -> [E, B, H', W', C]`, from the ReLU after the first batch norm up to the second; None for
        an operation that has one batch norm or none.
      weights: shapes of the weights per edge, by name, for `C` channels.
      per_source: whether the output depends on the source alone, so that all edges of a source share it.
      normalised: whether the last part is followed by a batch norm in the search network. In a discrete network, operations
        with weights are.
      identity: whether the output is the source itself; drop path leaves it alone.
      random: whether `first` draws random numbers.
      kernel: for separable convolutions of rectified images in both parts, the first one's depthwise kernel; the second one's has
        the same size and no dilation. `jointly` computes several such operations at once.
    """

    first: Callable[..., jax.Array]
    second: Callable[[jax.Array, Weights], jax.Array] | None = None
    weights: Callable[[int], Mapping[str, WeightShape]] = _no_weights
    per_source: bool = False
    normalised: bool = True
    identity: bool = False
    random: bool = False
    kernel: Kind | None = None

    @property
    def has_weights(self) -> bool:
        """Whether the operation has weights; their names do not depend on the number of channels."""
        return bool(self.weights(2))


class PartialOutput(NamedTuple):
    """The output of an operation up to its first batch norm.

    Attributes:
      operation: the operation.
      weights: its weights, stacked over its edges.
      first: the output of `Implementation.first`.
    """

    operation: Implementation
    weights: Weights
    first: jax.Array


def outputs_before_norm(
    parts: Sequence[PartialOutput],
    normalise: Callable[[list[jax.Array]], Sequence[jax.Array]],
    *,
    joint: Sequence[int] = (),
) -> list[jax.Array]:
    """The outputs of operations before the last batch norm of each, `[E, B, H', W', C]`.

    Args:
      parts: their outputs up to the first batch norm.
      normalise: applies the first batch norm to the outputs of operations that have two.
      joint: numbers of parts of equal shapes to compute `jointly`.
    """
    stacks = [each.first for each in parts]
    pending = [n for n, each in enumerate(parts) if each.operation.second]
    if not pending:
        return stacks
    normalised = dict(zip(pending, normalise([stacks[n] for n in pending])))
    together = [n for n in pending if n in joint]
    if together:
        operations, weights = zip(*((parts[n].operation, parts[n].weights) for n in together))
        x = jnp.stack([normalised.pop(n) for n in together])
        for n, z in zip(together, jointly(x, operations, weights, number=2, stride=1)):
            stacks[n] = z
    for n, x in normalised.items():
        second = parts[n].operation.second
        assert second is not None
        stacks[n] = second(x, parts[n].weights)
    return stacks


def separable(
    x: jax.Array, kernels: jax.Array, matrices: jax.Array, *, stride: int = 1, dilation: int = 1
) -> jax.Array:
    """Separable convolutions of the ReLU of `S` stacked sources with `E = S·T` kernels and matrices: `[E, B, H', W', D]`."""
    sources = x.shape[0]
    kernels = kernels.reshape(sources, -1, *kernels.shape[1:])
    return separable_conv(x, kernels, matrices, stride=stride, dilation=dilation, rectified=True)


def jointly(
    x: jax.Array, operations: Sequence[Implementation], weights: Sequence[Weights], *, number: int, stride: int
) -> list[jax.Array]:
    """Separable convolutions of several operations at once: `Implementation.first` or `second` of each.

    Args:
      x: the sources `[1, S, B, H, W, C]` of all operations, or for each a row of them, `[M, S, B, H, W, C]`; not rectified.
      operations: the M operations, which have a `kernel`.
      weights: their weights, stacked over `S·T` edges, T the same for all.
      number: 1 or 2, of the part.
      stride: 1 or 2.

    Returns:
      For each operation `[S·T, B, H', W', C]`.
    """
    kernels = [each[f"depthwise{number}"] for each in weights]
    taps = table_of_taps([kernel.reshape(x.shape[1], -1, *kernel.shape[1:]) for kernel in kernels])
    kinds = [each.kernel if number == 1 else Kind(each.kernel.size, 1) for each in operations if each.kernel]
    y = joint_depthwise.forward(jax.nn.relu(x), taps, kinds=kinds, stride=stride)
    matrices = jnp.concatenate([each[f"pointwise{number}"] for each in weights])
    z = pointwise([y.reshape(math.prod(y.shape[:3]), *y.shape[3:])], [matrices])[0]
    # The transpose of a split is a concatenation of the cotangents, which XLA fuses with what makes them.
    return list(jax.lax.split(z, [z.shape[0] // len(kinds)] * len(kinds)))


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


def initial_weights(
    operation: Implementation, key: jax.Array, edges: int, channels: int, dtype: Any
) -> dict[str, jax.Array]:
    """An operation's weights at the start, stacked over its edges: uniform, with PyTorch 0.3's bounds, or the identity."""
    shapes = operation.weights(channels)
    keys = jax.random.split(key, len(shapes))

    def initial(key: jax.Array, weight: WeightShape) -> jax.Array:
        shape = (edges, *weight.shape)
        if weight.fan_in is None:
            return jnp.broadcast_to(jnp.eye(*weight.shape, dtype=dtype), shape)
        bound = weight.fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return {name: initial(k, weight) for k, (name, weight) in zip(keys, shapes.items())}


def edge_by_edge(
    function: EdgeFunction,
    stride: int,
    weights: Callable[[int, int], Mapping[str, tuple[int, ...]]] | None = None,
    *,
    normalised: bool = True,
) -> Implementation:
    """An operation over a stack of edges from a function of one edge.

    Args:
      function: what it computes on one edge.
      stride: 1 or 2.
      weights: `(channels, stride) -> shapes` of its weights by name; no weights by default. All axes of a shape but the
        last are the fan-in.
      normalised: as in `Implementation`.
    """

    def shapes(channels: int) -> Mapping[str, WeightShape]:
        given = {} if weights is None else weights(channels, stride)
        return {name: WeightShape(shape, math.prod(shape[:-1])) for name, shape in given.items()}

    def first(states: jax.Array, weights: Weights) -> jax.Array:
        def of_edge(x: jax.Array, weights: Weights) -> jax.Array:
            return function(x, weights, stride)

        if not weights:
            return jax.vmap(lambda x: of_edge(x, {}))(states)
        sources = states.shape[0]
        by_source = {name: array.reshape(sources, -1, *array.shape[1:]) for name, array in weights.items()}
        stacked = jax.vmap(jax.vmap(of_edge, in_axes=(None, 0)))(states, by_source)
        return stacked.reshape(-1, *stacked.shape[2:])

    return Implementation(first, weights=shapes, per_source=not shapes(2), normalised=normalised)


def check_edge_function(name: str, operation: Implementation, stride: int) -> None:
    """Checks that an operation keeps batch, channels and type, and divides height and width by its stride; nothing is computed.

    Raises:
      InputError: it does not, or its weights have no positive fan-in.
    """
    channels, size = 4, 8
    shapes = operation.weights(channels)
    for weight, (shape, fan_in) in shapes.items():
        if fan_in is not None and fan_in < 1:
            raise InputError(f"operation {name}: weight {weight} of shape {shape}; give axes of 1 or more")
    states = jax.ShapeDtypeStruct((1, 2, size, size, channels), jnp.float32)
    weights = {weight: jax.ShapeDtypeStruct((1, *shape), jnp.float32) for weight, (shape, _) in shapes.items()}
    output = jax.eval_shape(operation.first, states, weights)
    expected = (2, size // stride, size // stride, channels)
    if output.shape[1:] != expected or output.dtype != states.dtype:
        raise InputError(
            f"operation {name}: maps {states.dtype} {states.shape[1:]} to {output.dtype} {output.shape[1:]} at stride {stride}; "
            f"its output must be {states.dtype} {expected}"
        )
