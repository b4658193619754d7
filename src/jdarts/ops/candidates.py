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

from jdarts import native
from jdarts.ops.depthwise import depthwise_conv
from jdarts.ops.depthwise import joint as joint_depthwise
from jdarts.ops.depthwise.kinds import Kind, table_of_taps
from jdarts.ops.pointwise import pointwise
from jdarts.ops.separable import separable_conv

Weights = Mapping[str, jax.Array]


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
      second: `(x, weights) -> [E, B, H', W', C']`, from the ReLU after the first batch norm up to the second; None for
        an operation that has one batch norm or none.
      weights: shapes of the weights per edge, by name, for `C` channels.
      per_source: whether the output depends on the source alone, so that all edges of a source share it.
      normalised: whether the last part is followed by a batch norm in the search network. In a discrete network, operations
        with weights are.
      identity: whether the output is the source itself; drop path leaves it alone.
      random: whether `first` draws random numbers.
      kernel: for separable convolutions of rectified images in both parts, the first one's depthwise kernel; the second one's has
        the same size and no dilation. `jointly` computes several such operations at once.
      third: `(x, weights) -> [E, B, H', W', C]`, the same for the part between the second and the third batch norm.
      initial: `(key, channels, dtype) -> {name: array}`, one edge's weights at the start, where they are not those of
        `WeightShape`.
    """

    first: Callable[..., jax.Array]
    second: Callable[[jax.Array, Weights], jax.Array] | None = None
    weights: Callable[[int], Mapping[str, WeightShape]] = _no_weights
    per_source: bool = False
    normalised: bool = True
    identity: bool = False
    random: bool = False
    kernel: Kind | None = None
    third: Callable[[jax.Array, Weights], jax.Array] | None = None
    initial: Callable[[jax.Array, int, Any], Mapping[str, jax.Array]] | None = None

    @property
    def has_weights(self) -> bool:
        """Whether the operation has weights; their names do not depend on the number of channels."""
        return bool(self.weights(16))

    @property
    def later_parts(self) -> tuple[Callable[[jax.Array, Weights], jax.Array], ...]:
        """The parts after each inner batch norm, in order."""
        return tuple(part for part in (self.second, self.third) if part is not None)

    @property
    def inner_norms(self) -> int:
        """Number of batch norms before the last one."""
        return len(self.later_parts)

    def without_norms(self, states: jax.Array, weights: Weights) -> jax.Array:
        """The output of an operation that draws no numbers, with the identity in place of the inner batch norms."""
        x = self.first(states, weights)
        for part in self.later_parts:
            x = part(x, weights)
        return x


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


#: Applies the inner batch norm of a number, from 1, to the outputs of the parts of these numbers.
Normalise = Callable[[int, Sequence[int], list[jax.Array]], Sequence[jax.Array]]


def outputs_before_norm(
    parts: Sequence[PartialOutput], normalise: Normalise, *, joint: Sequence[int] = ()
) -> list[jax.Array]:
    """The outputs of operations before the last batch norm of each, `[E, B, H', W', C]`.

    Args:
      parts: their outputs up to the first batch norm.
      normalise: applies batch norms between two parts.
      joint: numbers of parts of equal shapes to compute `jointly`.
    """
    stacks = [each.first for each in parts]
    for number in (1, 2):
        pending = [n for n, each in enumerate(parts) if each.operation.inner_norms >= number]
        if not pending:
            break
        normalised = dict(zip(pending, normalise(number, pending, [stacks[n] for n in pending])))
        together = [n for n in pending if n in joint and number == 1]
        if together:
            operations, weights = zip(*((parts[n].operation, parts[n].weights) for n in together))
            x = jnp.stack([normalised.pop(n) for n in together])
            for n, z in zip(together, jointly(x, operations, weights, number=2, stride=1)):
                stacks[n] = z
        for n, x in normalised.items():
            stacks[n] = parts[n].operation.later_parts[number - 1](x, parts[n].weights)
    return stacks


def separable(
    x: jax.Array, kernels: jax.Array, matrices: jax.Array, *, stride: int = 1, dilation: int = 1
) -> jax.Array:
    """Separable convolutions of the ReLU of `S` stacked sources with `E = S·T` kernels and matrices: `[E, B, H', W', D]`.

    Without native functions, programs for CPUs have the two convolutions one by one. JAX then keeps the result of the first for
    the backward pass; as one function it is computed up to eight times in an exact step, and compiled for each.
    """
    sources = x.shape[0]
    kernels = kernels.reshape(sources, -1, *kernels.shape[1:])
    if native.is_absent_here(x.dtype):
        y = depthwise_conv(x, kernels, stride=stride, dilation=dilation, rectified=True)
        return pointwise([y.reshape(-1, *y.shape[2:])], [matrices])[0]
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
    """An operation's weights at the start, stacked over its edges.

    Uniform with PyTorch 0.3's bounds, or the identity, or those of its `initial`.
    """
    if operation.initial is not None:
        own = operation.initial
        return dict(jax.vmap(lambda key: own(key, channels, dtype))(jax.random.split(key, edges)))
    shapes = operation.weights(channels)
    keys = jax.random.split(key, len(shapes))

    def initial(key: jax.Array, weight: WeightShape) -> jax.Array:
        shape = (edges, *weight.shape)
        if weight.fan_in is None:
            return jnp.broadcast_to(jnp.eye(*weight.shape, dtype=dtype), shape)
        bound = weight.fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return {name: initial(k, weight) for k, (name, weight) in zip(keys, shapes.items())}
