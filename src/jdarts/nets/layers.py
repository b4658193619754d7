"""What the search network and discrete networks share: batch norms, convolutions, the preprocessing of a cell, the classifier."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jdarts.errors import InputError
from jdarts.ops.candidates import Implementation, PartialOutput, Weights, factorized_reduce, initial_weights
from jdarts.ops.norm import (
    Affine,
    Plan,
    identity_plan,
    normalised_sum,
    normalised_sum_by_route,
    rows_of_routes,
)
from jdarts.ops.pointwise import pointwise
from jdarts.ops.precision import wide_type
from jdarts.ops.running_moments import Moments, running_moments
from jdarts.parallel import device_count, device_key
from jdarts.space import CellKind
from jdarts.xla.platform import target_platform


def checked_images(images: jax.Array, dtype: Any) -> jax.Array:
    """A batch of images in the type of a network's feature maps.

    Raises:
      InputError: another type than `wide_type(dtype)`, another number of axes, or images without pixels or channels.
    """
    wide = wide_type(dtype)
    if images.ndim != 4 or images.dtype != wide:
        raise InputError(f"images are {images.dtype} {images.shape}; give [B, H, W, C] of {jnp.dtype(wide).name}")
    if 0 in images.shape[1:]:
        raise InputError(
            f"images are [B, H, W, C] = {list(images.shape)}; give images of at least one pixel and channel"
        )
    return images.astype(dtype)


def check_image_size(height: int, width: int, kinds: Sequence[CellKind], *, stem_stride: int = 1) -> None:
    """Checks that every reduction finds an even image, as the factorised reduction needs.

    Args:
      height: of the images, in pixels.
      width: of the images, in pixels.
      kinds: of the cells of the network, in order.
      stem_stride: what the stem divides the size by before its last halving; that is a reduction too, where the stem has
        such a halving (`stem_stride` above 1).

    Raises:
      InputError: an odd size at some reduction.
    """
    reductions = [(f"the reduction in cell {index} of {len(kinds)}", kind) for index, kind in enumerate(kinds)]
    size = (-(-height // stem_stride), -(-width // stem_stride))
    if stem_stride > 1:
        reductions.insert(0, ("the last halving of the stem", "reduce"))
    for place, kind in reductions:
        if kind == "normal":
            continue
        if size[0] % 2 or size[1] % 2:
            raise InputError(
                f"images of {height}×{width} are {size[0]}×{size[1]} at {place}, which "
                "needs even sizes; resize or pad the images"
            )
        size = (size[0] // 2, size[1] // 2)


def uniform(bound: float) -> Callable[..., jax.Array]:
    """PyTorch's initial values: uniform between −bound and bound."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class NormalisedSum(nn.Module):
    """A sum of batch-normalised rows, with the running statistics of those rows.

    Attributes:
      plan: routes from rows of the inputs to rows of the results.
      affine: whether each row has a scale and a bias after the normalisation.
      by_route: whether each normalised route has running statistics for itself, not each row. Normalised routes come first, and
        there is no affine part.
    """

    plan: Plan
    affine: bool = False
    by_route: bool = False

    @nn.compact
    def __call__(
        self,
        stacks: Sequence[jax.Array],
        weights: jax.Array | None = None,
        *,
        train: bool,
        used: jax.Array | None = None,
    ) -> tuple[jax.Array, ...]:
        """Adds up rows as `normalised_sum` does.

        Args:
          stacks: `[I_k, B, H, W, C]`.
          weights: `[R]`, one per route; ones by default.
          train: True for the statistics of this batch, False for running statistics.
          used: for each row of the running statistics, whether it follows the batch's, bool `[N]`; all do by default.

        Returns:
          Stacks `[J_q, B, H, W, C]`.
        """
        dtype = wide_type(stacks[0].dtype)
        weights = jnp.ones(len(self.plan.routes), dtype) if weights is None else weights
        if not self.plan.normalised:
            return normalised_sum(weights, stacks, self.plan)[0]
        routes = rows_of_routes(stacks, self.plan) if self.by_route else None
        rows = sum(stack.shape[0] for stack in stacks[: self.plan.normalised]) if routes is None else len(routes)
        shape = (rows, stacks[0].shape[-1])
        affine = self._affine(shape, dtype) if self.affine else None
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, dtype)
        variance = self.variable("batch_stats", "variance", jnp.ones, shape, dtype)
        running = Moments(mean.value, variance.value)
        if not train and self.by_route:
            return normalised_sum_by_route(weights, stacks, self.plan, running)
        if not train:
            return normalised_sum(weights, stacks, self.plan, running, affine)[0]
        moving = self.is_mutable_collection("batch_stats") and not self.is_initializing()
        at_once = moving and routes is None and self.plan.axis_name is None
        following = running if at_once else None
        outs, found = normalised_sum(weights, stacks, self.plan, affine=affine, following=following)
        if moving:
            moved = found
            if not at_once:
                count = math.prod(stacks[0].shape[1:-1]) * device_count(self.plan.axis_name)
                batch = found if routes is None else Moments(*(moment[np.array(routes)] for moment in found))
                moved = running_moments(running, batch, count)
            if used is not None:
                moved = jax.tree.map(lambda new, old: jnp.where(used[:, None], new, old), moved, running)
            mean.value, variance.value = moved
        return outs

    def _affine(self, shape: tuple[int, ...], dtype: Any) -> Affine:
        # The initial values of PyTorch 0.3.
        return Affine(
            self.param("scale", nn.initializers.uniform(1.0), shape, dtype),
            self.param("bias", nn.initializers.zeros, shape, dtype),
        )


def inner_norms(
    number: int,
    stacks: Sequence[jax.Array],
    channels: int,
    axis_name: str | None,
    *,
    affine: bool = False,
    train: bool,
    used: Sequence[jax.Array] | None = None,
) -> list[jax.Array]:
    """Batch norms between two parts of operations, as modules of the one that calls this.

    Those of one shape are one module, `middle` for the usual channels and the first number.

    Args:
      number: which of an operation's inner batch norms, from 1.
      stacks: the outputs to normalise, `[E_k, B, H, W, C_k]`.
      channels: those of the cell.
      axis_name: as in `Plan`.
      affine: as in `NormalisedSum`.
      train: as in `NormalisedSum`.
      used: as in `NormalisedSum`, for the rows of each stack.
    """
    places: dict[tuple[int, ...], list[int]] = {}
    for place, stack in enumerate(stacks):
        places.setdefault(stack.shape[2:], []).append(place)
    normalised, names = list(stacks), list[str]()
    for shape, members in places.items():
        expansion = shape[-1] // channels
        name = "middle" + ("" if expansion == number == 1 else f"{number}_by_{expansion}")
        names.append(name)
        if names.count(name) > 1:  # Images of another size.
            name += f"_{names.count(name)}"
        norm = NormalisedSum(identity_plan([stacks[n].shape[0] for n in members], axis_name), affine, name=name)
        rows = None if used is None else jnp.concatenate([used[n] for n in members])
        for place, stack in zip(members, norm([stacks[n] for n in members], train=train, used=rows)):
            normalised[place] = stack
    return normalised


class Convolution(nn.Module):
    """A full convolution without a bias, and a batch norm with scale and bias.

    Attributes:
      features: channels of the result.
      size: of the kernel.
      stride: in both directions.
      padding: zeros on every side.
      normalised: whether the batch norm is there.
      axis_name: a mapped axis for synchronised batch statistics.
    """

    features: int
    size: int = 3
    stride: int = 1
    padding: int = 1
    normalised: bool = True
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`[B, H, W, channels]` to `[B, H', W', features]`."""
        shape = (self.size, self.size, images.shape[-1], self.features)
        kernel = self.param("kernel", uniform(math.prod(shape[:3]) ** -0.5), shape, wide_type(images.dtype))
        kernel = kernel.astype(images.dtype)
        pads = ((self.padding, self.padding),) * 2
        strides = (self.stride, self.stride)
        x = lax.conv_general_dilated(images, kernel, strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        if not self.normalised:
            return x
        norm = NormalisedSum(identity_plan((1,), self.axis_name), affine=True, name="norm")
        return norm([x[None]], train=train)[0][0]


class Preprocess(nn.Module):
    """Brings both inputs of a cell to its channels: ReLU, 1×1 convolution, batch norm.

    If the previous cell has halved the image, the older input is halved too, by a factorised reduction.

    Attributes:
      features: channels of the cell.
      reduction_before: whether the previous cell is a reduction cell.
      axis_name: a mapped axis for synchronised batch statistics.
      affine: whether the batch norms have a scale and a bias.
    """

    features: int
    reduction_before: bool
    axis_name: str | None
    affine: bool = False

    @nn.compact
    def __call__(self, s0: jax.Array, s1: jax.Array, *, train: bool) -> jax.Array:
        """Returns the cell's sources, `[2, B, H, W, features]`."""
        older, newer = jax.nn.relu(s0)[None], jax.nn.relu(s1)[None]
        if self.reduction_before:
            halves = (self._weight(name, older, self.features // 2) for name in ("even0", "odd0"))
            sources = (factorized_reduce(older, *halves), *pointwise([newer], [self._newer_weight(newer)]))
        else:
            of_older = self._weight("pointwise0", older, self.features)
            sources = pointwise([older, newer], [of_older, self._newer_weight(newer)])
        plan = Plan(routes=((0, 0, 0, 0), (1, 0, 0, 1)), sizes=(2,), normalised=2, axis_name=self.axis_name)
        if target_platform() == "tpu":
            # Rows of one stack share all small operations, and the result is one stack anyway.
            sources, plan = (jnp.concatenate(sources),), identity_plan((2,), self.axis_name)
        return NormalisedSum(plan, self.affine, name="norm")(sources, train=train)[0]

    def _newer_weight(self, newer: jax.Array) -> jax.Array:
        return self._weight("pointwise1", newer, self.features)

    def _weight(self, name: str, x: jax.Array, features: int) -> jax.Array:
        weight = self.param(name, uniform(x.shape[-1] ** -0.5), (1, x.shape[-1], features), wide_type(x.dtype))
        return weight.astype(x.dtype)


#: The random number stream (`rngs` of flax) of random operations and mixtures.
NOISE_STREAM = "noise"


def first_part(
    module: nn.Module,
    name: str,
    operation: Implementation,
    edges: int,
    states: jax.Array,
    *,
    axis_name: str | None = None,
) -> PartialOutput:
    """Runs an operation on its sources, up to its first batch norm.

    Args:
      module: owns the weights.
      name: of the weights.
      operation: the operation.
      edges: number of edges `E`.
      states: the sources `[S, B, H, W, C]`.
      axis_name: a mapped axis over which the images are spread; each device then draws other random numbers.
    """
    weights = operation_weights(module, name, operation, edges, states)
    drawn = (device_key(module.make_rng(NOISE_STREAM), axis_name), edges) if operation.random else ()
    return PartialOutput(operation, weights, operation.first(states, weights, *drawn))


def operation_weights(
    module: nn.Module, name: str, operation: Implementation, edges: int, images: jax.Array
) -> Weights:
    """A module's weights for an operation, stacked over its edges, in the type of the images `[…, C]`."""
    channels, wide = images.shape[-1], wide_type(images.dtype)
    if not operation.weights(channels):
        return {}
    weights = module.param(name, lambda key: initial_weights(operation, key, edges, channels, wide))
    return {name: weight.astype(images.dtype) for name, weight in weights.items()}


def global_mean(x: jax.Array) -> jax.Array:
    """Features `[B, C]`: the mean over the pixels of `[B, H, W, C]`, of its `wide_type`."""
    return jnp.mean(x.astype(wide_type(x.dtype)), axis=(1, 2))


def classifier(classes: int, features: jax.Array, *, name: str) -> nn.Dense:
    """The linear layer from features `[B, F]` to logits, with PyTorch's initial values."""
    bound = features.shape[-1] ** -0.5
    return nn.Dense(
        classes,
        kernel_init=uniform(bound),
        bias_init=uniform(bound),
        dtype=features.dtype,
        param_dtype=features.dtype,
        name=name,
    )
