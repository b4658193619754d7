"""Operations that a program adds: from a function of one edge, or a Flax module, to an `Implementation`."""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jdarts.errors import InputError
from jdarts.ops.candidates import Implementation, Weights, WeightShape

#: An operation on one edge: `(x [B, H, W, C], weights, stride) -> [B, H', W', C]`.
EdgeFunction = Callable[[jax.Array, Weights, int], jax.Array]
#: The shapes of its weights by name, from channels and stride.
EdgeWeights = Callable[[int, int], Mapping[str, tuple[int, ...]]]

#: Channels and size of the images on which operations are checked.
CHANNELS, SIZE = 4, 8


def edge_by_edge(
    function: EdgeFunction, stride: int, weights: EdgeWeights | None = None, *, normalised: bool = True
) -> Implementation:
    """An operation over a stack of edges from a function of one edge.

    Args:
      function: what it computes on one edge.
      stride: 1 or 2.
      weights: shapes of its weights; no weights by default. All axes of a shape but the last are the fan-in.
      normalised: as in `Implementation`.
    """

    def shapes(channels: int) -> Mapping[str, WeightShape]:
        given = {} if weights is None else weights(channels, stride)
        return {name: WeightShape(shape, math.prod(shape[:-1])) for name, shape in given.items()}

    def of_edge(x: jax.Array, weights: Weights) -> jax.Array:
        return function(x, weights, stride)

    return Implementation(over_edges(of_edge), weights=shapes, per_source=not shapes(CHANNELS), normalised=normalised)


def over_edges(of_edge: Callable[[jax.Array, Weights], jax.Array]) -> Callable[[jax.Array, Weights], jax.Array]:
    """`Implementation.first` from a function of one edge's image and weights."""

    def first(states: jax.Array, weights: Weights) -> jax.Array:
        if not weights:
            return jax.vmap(lambda x: of_edge(x, {}))(states)
        sources = states.shape[0]
        by_source = {name: array.reshape(sources, -1, *array.shape[1:]) for name, array in weights.items()}
        stacked = jax.vmap(jax.vmap(of_edge, in_axes=(None, 0)))(states, by_source)
        return stacked.reshape(-1, *stacked.shape[2:])

    return first


def check_implementation(name: str, operation: Implementation, stride: int, *, channels: int = CHANNELS) -> None:
    """Checks that an operation keeps batch, channels and type, and divides height and width by its stride; nothing is computed.

    Raises:
      InputError: it does not, or its weights have no positive fan-in.
    """
    shapes = operation.weights(channels)
    for weight, (shape, fan_in) in shapes.items():
        if fan_in is not None and fan_in < 1:
            raise InputError(f"operation {name}: weight {weight} of shape {shape}; give axes of 1 or more")
    states = jax.ShapeDtypeStruct((1, 2, SIZE, SIZE, channels), jnp.float32)
    weights = {weight: jax.ShapeDtypeStruct((1, *shape), jnp.float32) for weight, (shape, _) in shapes.items()}
    output = jax.eval_shape(operation.without_norms, states, weights)
    expected = (2, SIZE // stride, SIZE // stride, channels)
    if output.shape[1:] != expected or output.dtype != states.dtype:
        raise InputError(
            f"operation {name}: maps {states.dtype} {states.shape[1:]} to {output.dtype} {output.shape[1:]} at stride {stride}; "
            f"its output must be {states.dtype} {expected}"
        )
