"""The computation of the operations that jdarts brings: an `Implementation` for each size and stride."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax

from jdarts.ops.candidates import (
    Implementation,
    Weights,
    WeightShape,
    factorized_reduce,
    separable,
)
from jdarts.ops.depthwise import depthwise_conv
from jdarts.ops.depthwise.kinds import Kind
from jdarts.ops.pointwise import pointwise

#: Squeeze-and-excitation has this many times fewer channels between its two layers (Hu et al., 2018, for MobileNets).
_REDUCTION = 4


def _convolution_weights(size: int, rounds: int) -> Callable[[int], Mapping[str, WeightShape]]:
    def weights(channels: int) -> Mapping[str, WeightShape]:
        shapes = {}
        for number in range(1, rounds + 1):
            # The fan-in of PyTorch 0.3: input channels, not divided by the groups.
            shapes[f"depthwise{number}"] = WeightShape((size, size, channels), channels * size * size)
            shapes[f"pointwise{number}"] = WeightShape((channels, channels), channels)
        return shapes

    return weights


def separable_convolution(size: int, stride: int) -> Implementation:
    """Twice ReLU, depthwise and 1×1 convolution, batch norm."""

    def first(states: jax.Array, weights: Weights) -> jax.Array:
        return separable(states, weights["depthwise1"], weights["pointwise1"], stride=stride)

    def second(x: jax.Array, weights: Weights) -> jax.Array:
        return separable(x, weights["depthwise2"], weights["pointwise2"])

    return Implementation(first, second, _convolution_weights(size, rounds=2), kernel=Kind(size, 1))


def dilated_convolution(size: int, stride: int) -> Implementation:
    """ReLU, depthwise convolution of dilation 2, 1×1 convolution, batch norm."""

    def first(states: jax.Array, weights: Weights) -> jax.Array:
        return separable(states, weights["depthwise1"], weights["pointwise1"], stride=stride, dilation=2)

    return Implementation(first, weights=_convolution_weights(size, rounds=1), kernel=Kind(size, 2))


def factorized_convolution(size: int, stride: int) -> Implementation:
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

    return Implementation(first, weights=shapes)


def pooling(pool: Callable[..., jax.Array], stride: int, *, normalised: bool = True) -> Implementation:
    """A pool of 3×3 windows; `normalised` as in `Implementation`."""
    return Implementation(lambda states, weights: pool(states, stride=stride), per_source=True, normalised=normalised)


def skip(stride: int) -> Implementation:
    """The identity, or at stride 2 a factorised reduction."""
    if stride == 1:
        return Implementation(lambda states, weights: states, per_source=True, normalised=False, identity=True)

    def first(states: jax.Array, weights: Weights) -> jax.Array:
        even, odd = weights["even"], weights["odd"]
        return factorized_reduce(_of_edges(jax.nn.relu(states), len(even)), even, odd)

    def shapes(channels: int) -> Mapping[str, WeightShape]:
        half = WeightShape((channels, channels // 2), channels)
        return {"even": half, "odd": half}

    return Implementation(first, weights=shapes)


def noise(stride: int) -> Implementation:
    """Standard normal numbers in place of an output (RobustDARTS, space S4)."""

    def first(states: jax.Array, weights: Weights, key: jax.Array, edges: int) -> jax.Array:
        _, batch, height, width, channels = states.shape
        return jax.random.normal(key, (edges, batch, -(-height // stride), -(-width // stride), channels), states.dtype)

    return Implementation(first, normalised=False, random=True)


def full_convolution(size: int, stride: int) -> Implementation:
    """ReLU, full convolution, batch norm: NAS-Bench-201's."""

    def first(states: jax.Array, weights: Weights) -> jax.Array:
        kernels = weights["kernel"]
        sources, pad = states.shape[0], size // 2
        by_source = kernels.reshape(sources, -1, *kernels.shape[1:])
        # The targets of a source are more features of one convolution.
        joined = jnp.moveaxis(by_source, 1, -2).reshape(sources, *kernels.shape[1:-1], -1)
        rows = []
        for source in range(sources):
            y = lax.conv_general_dilated(
                jax.nn.relu(states[source]),
                joined[source],
                (stride, stride),
                ((pad, pad),) * 2,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            rows.append(jnp.moveaxis(y.reshape(*y.shape[:-1], -1, kernels.shape[-1]), -2, 0))
        return jnp.concatenate(rows)

    def shapes(channels: int) -> Mapping[str, WeightShape]:
        return {"kernel": WeightShape((size, size, channels, channels), channels * size * size)}

    return Implementation(first, weights=shapes)


def full_pointwise(stride: int) -> Implementation:
    """ReLU, 1×1 convolution, batch norm: `full_convolution` of size 1 for all edges at once."""

    def first(states: jax.Array, weights: Weights) -> jax.Array:
        matrices = weights["pointwise"]
        return pointwise([_of_edges(jax.nn.relu(states[:, :, ::stride, ::stride]), len(matrices))], [matrices])[0]

    return Implementation(first, weights=lambda channels: {"pointwise": WeightShape((channels, channels), channels)})


def squeeze_excitation(stride: int) -> Implementation:
    """Channels weighted by two layers of their means (Hu et al., 2018), of every other pixel at stride 2."""

    def first(states: jax.Array, weights: Weights) -> jax.Array:
        return _excited(_of_edges(states, len(weights["squeeze"])), weights)[:, :, ::stride, ::stride]

    return Implementation(first, weights=_excitation_weights)


def inverted_bottleneck(size: int, expansion: int, stride: int, *, excitation: bool = False) -> Implementation:
    """MobileNet's inverted bottleneck, as an edge of a cell: without a ReLU before it and without the block's identity.

    1×1 convolution to `expansion` times the channels, batch norm, ReLU6; depthwise convolution, batch norm, ReLU6; 1×1
    convolution, batch norm.

    Args:
      size: of the depthwise kernel.
      expansion: of the channels.
      stride: of the depthwise convolution.
      excitation: whether a squeeze-and-excitation precedes the last convolution (MnasNet, EfficientNet).
    """

    def first(states: jax.Array, weights: Weights) -> jax.Array:
        matrices = weights["expand"]
        return pointwise([_of_edges(states, len(matrices))], [matrices])[0]

    def second(x: jax.Array, weights: Weights) -> jax.Array:
        return depthwise_conv(jax.nn.relu6(x), weights["depthwise"][:, None], stride=stride)[:, 0]

    def third(x: jax.Array, weights: Weights) -> jax.Array:
        x = jax.nn.relu6(x)
        return pointwise([_excited(x, weights) if excitation else x], [weights["project"]])[0]

    def shapes(channels: int) -> Mapping[str, WeightShape]:
        wide = expansion * channels
        found = {
            "expand": WeightShape((channels, wide), channels),
            "depthwise": WeightShape((size, size, wide), size * size),
            "project": WeightShape((wide, channels), wide),
        }
        return found | dict(_excitation_weights(wide)) if excitation else found

    return Implementation(first, second, shapes, third=third)


def _of_edges(states: jax.Array, edges: int) -> jax.Array:
    """The source of each edge, `[E, B, H, W, C]`, from the sources `[S, B, H, W, C]`."""
    return jnp.repeat(states, edges // len(states), axis=0)


def _excitation_weights(channels: int) -> Mapping[str, WeightShape]:
    few = max(channels // _REDUCTION, 1)
    return {
        "squeeze": WeightShape((channels, few), channels),
        "squeeze_shift": WeightShape((few,), channels),
        "excite": WeightShape((few, channels), few),
        "excite_shift": WeightShape((channels,), few),
    }


def _excited(x: jax.Array, weights: Weights) -> jax.Array:
    """The images of edges `[E, B, H, W, C]`, their channels weighted."""
    means = jnp.mean(x, axis=(2, 3))
    hidden = jax.nn.relu(jnp.matmul(means, weights["squeeze"]) + weights["squeeze_shift"][:, None])
    factors = jax.nn.sigmoid(jnp.matmul(hidden, weights["excite"]) + weights["excite_shift"][:, None])
    return x * factors[:, :, None, None, :]
