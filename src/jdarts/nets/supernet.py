"""The search network of DARTS: cells whose edges hold all candidate operations at once (paper section 2.2).

Weights and computation are stacked over edges: one depthwise call for all kernels that read the same sources, one
batched matrix product for all pointwise convolutions, one sum for a whole stage. The same function written edge by edge is
in the tests.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jdarts.errors import InputError
from jdarts.nets.stages import OperationEdges, Stage, stages
from jdarts.ops.candidates import Operation, Sources, candidate, factorized_reduce, pointwise
from jdarts.ops.mixing import mix
from jdarts.ops.norm import Moments, batch_moments, running_moments, scale_and_shift
from jdarts.space import CELL_KINDS, CellKind, SearchSpace, cell_kinds

Alphas = Mapping[str, jax.Array]


def init_alphas(key: jax.Array, space: SearchSpace, dtype: Any = jnp.float32) -> dict[str, jax.Array]:
    """Architecture parameters at the start: `1e-3 · N(0, 1)`, as in the reference implementation.

    Returns:
      `{'normal': [E, O], 'reduce': [E, O]}`. Where an edge's list is shorter than `O`, its last columns are not used.
    """
    keys = jax.random.split(key, len(CELL_KINDS))
    return {
        kind: 1e-3 * jax.random.normal(k, (space.num_edges, space.width(kind)), dtype)
        for kind, k in zip(CELL_KINDS, keys)
    }


def mixture_weights(space: SearchSpace, kind: CellKind, alphas: jax.Array) -> jax.Array:
    """Softmax of the alphas over the operations of each edge, `none` among them (paper equation 2).

    Args:
      space: the search space.
      kind: of which cell.
      alphas: `[E, O]`.

    Returns:
      `[E, O]`, 0 in columns that an edge's list does not have.

    Raises:
      InputError: alphas of another shape.
    """
    lengths = np.array([len(edge) for edge in space.operations(kind)])
    expected = (space.num_edges, space.width(kind))
    if alphas.shape != expected:
        raise InputError(f"the alphas of the {kind} cell have shape {alphas.shape}; this space needs {expected}")
    return jax.nn.softmax(alphas, axis=-1, where=np.arange(expected[1])[None, :] < lengths[:, None])


def check_image_size(height: int, width: int, cells: int) -> None:
    """Checks that every reduction finds an even image, as the factorised reduction needs.

    Raises:
      InputError: an odd size at some reduction.
    """
    size = (height, width)
    for index, kind in enumerate(cell_kinds(cells)):
        if kind == "normal":
            continue
        if size[0] % 2 or size[1] % 2:
            raise InputError(
                f"images of {height}×{width} are {size[0]}×{size[1]} at the reduction in cell {index} of {cells}, which "
                "needs even sizes; resize or pad the images"
            )
        size = (size[0] // 2, size[1] // 2)


class Supernet(nn.Module):
    """The DARTS search network for images.

    Attributes:
      space: the search space.
      channels: channels `C` of the first cells; each reduction doubles them. The paper's 16.
      cells: number of cells. The paper's 8.
      classes: number of classes.
      stem_multiplier: the stem has this times `C` channels.
      axis_name: a mapped axis for synchronised batch statistics; None for those of each device.
      dtype: type of weights and computation.
    """

    space: SearchSpace
    channels: int = 16
    cells: int = 8
    classes: int = 10
    stem_multiplier: int = 3
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, alphas: Alphas, *, train: bool) -> jax.Array:
        """Classifies images.

        Args:
          images: `[B, H, W, channels of the images]`, normalised, of type `dtype`.
          alphas: `{'normal': [E, O], 'reduce': [E, O]}`.
          train: True for the statistics of this batch (and running statistics brought up to date, where
            `batch_stats` is mutable); False for running statistics.

        Returns:
          Logits `[B, classes]`.

        Raises:
          InputError: images of another type or of a size that a reduction cannot halve, or alphas of another space.
        """
        if images.ndim != 4 or images.dtype != self.dtype:
            raise InputError(
                f"images are {images.dtype} {images.shape}; give [B, H, W, C] of {jnp.dtype(self.dtype).name}"
            )
        check_image_size(*images.shape[1:3], self.cells)
        weights = {kind: mixture_weights(self.space, kind, alphas[kind]) for kind in CELL_KINDS}
        states = Stem(self.stem_multiplier * self.channels, self.axis_name, name="stem")(images, train=train)
        before, last = states, states
        channels, halved = self.channels, False
        for index, kind in enumerate(cell_kinds(self.cells)):
            channels *= 2 if kind == "reduce" else 1
            cell = Cell(self.space, kind, channels, halved, self.axis_name, name=f"cell{index}")
            before, last = last, cell(before, last, weights[kind], train=train)
            halved = kind == "reduce"
        features = jnp.mean(last, axis=(1, 2))
        bound = features.shape[-1] ** -0.5
        return nn.Dense(
            self.classes,
            kernel_init=_uniform(bound),
            bias_init=_uniform(bound),
            dtype=self.dtype,
            param_dtype=self.dtype,
            name="classifier",
        )(features)


class Stem(nn.Module):
    """3×3 convolution and batch norm with scale and bias, without a ReLU."""

    features: int
    axis_name: str | None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`[B, H, W, channels]` to `[B, H, W, features]`."""
        kernel_shape = (3, 3, images.shape[-1], self.features)
        kernel = self.param("kernel", _uniform(np.prod(kernel_shape[:3]) ** -0.5), kernel_shape, images.dtype)
        x = lax.conv_general_dilated(
            images, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        scale = self.param("scale", nn.initializers.uniform(1.0), (self.features,), images.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), images.dtype)
        return _spread(scale, x) * Norm(self.axis_name, name="norm")(x, train=train) + _spread(bias, x)


class Norm(nn.Module):
    """Batch statistics of stacked feature maps, with running statistics for evaluation."""

    axis_name: str | None

    @nn.compact
    def moments(self, x: jax.Array, *, train: bool) -> Moments:
        """Statistics to normalise `[…, B, H, W, C]` with: `[…, C]`."""
        shape = (*x.shape[:-4], x.shape[-1])
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, x.dtype)
        variance = self.variable("batch_stats", "variance", jnp.ones, shape, x.dtype)
        running = Moments(mean.value, variance.value)
        if not train:
            return running
        batch = batch_moments(x, axis_name=self.axis_name)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            count = int(np.prod(x.shape[-4:-1]))
            if self.axis_name is not None:
                count *= lax.axis_size(self.axis_name)
            mean.value, variance.value = running_moments(running, batch, count)
        return batch

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalises `[…, B, H, W, C]`, without scale and bias."""
        scale, shift = scale_and_shift(self.moments(x, train=train))
        return _spread(scale, x) * x + _spread(shift, x)


class Cell(nn.Module):
    """A cell of mixed edges: every node is the sum of its incoming edges, the output joins the nodes' channels."""

    space: SearchSpace
    kind: CellKind
    channels: int
    halved_before: bool
    axis_name: str | None

    @nn.compact
    def __call__(self, before: jax.Array, last: jax.Array, weights: jax.Array, *, train: bool) -> jax.Array:
        """Computes the cell.

        Args:
          before: output of the cell before the last one, `[B, H, W, …]`.
          last: output of the last cell.
          weights: mixture weights `[E, O]`.
          train: as in `Supernet`.

        Returns:
          `[B, H', W', C · len(concat)]`.
        """
        reads = _HalvingPreprocess if self.halved_before else _Preprocess
        inputs = (
            reads(self.channels, self.axis_name, name="preprocess0")(before, train=train),
            _Preprocess(self.channels, self.axis_name, name="preprocess1")(last, train=train),
        )
        states = list(inputs)
        sums: dict[int, jax.Array] = {}
        for index, stage in enumerate(stages(self.space, self.kind)):
            read = jnp.stack([states[source] for source in stage.sources])
            stride = 2 if self.kind == "reduce" and index == 0 else 1
            mixed = MixedStage(stage, self.channels, stride, self.space.nodes, self.axis_name, name=f"stage{index}")
            for node, part in mixed(read, weights, train=train).items():
                sums[node] = sums[node] + part if node in sums else part
            states.append(sums[index])
        return jnp.concatenate([states[state] for state in self.space.concat], axis=-1)


class MixedStage(nn.Module):
    """All operations on the edges that leave one stage's sources."""

    stage: Stage
    channels: int
    stride: int
    nodes: int
    axis_name: str | None

    @nn.compact
    def __call__(self, states: jax.Array, weights: jax.Array, *, train: bool) -> dict[int, jax.Array]:
        """Adds up the edges of the stage.

        Args:
          states: the sources `[S, B, H, W, C]`.
          weights: mixture weights `[E, O]` of the whole cell.
          train: as in `Supernet`.

        Returns:
          For each node that the stage reaches, its part of the sum, `[B, H', W', C]`.
        """
        sources = Sources(states, jax.nn.relu(states))
        reached = sorted({node for group in self.stage.operations for node in group.targets})
        total = None
        for group in self.stage.operations:
            group = group._replace(targets=tuple(reached.index(node) for node in group.targets))
            chosen = weights[np.array(group.edges), np.array(group.columns)]
            part = StackedOperation(group, self.channels, self.stride, len(reached), self.axis_name, name=group.name)(
                sources, chosen, train=train
            )
            total = part if total is None else total + part
        parts = lax.split(total, (1,) * len(reached), axis=0)
        return {node: part.reshape(part.shape[1:]) for node, part in zip(reached, parts)}


class StackedOperation(nn.Module):
    """One operation on all edges of a stage that hold it, weighted and summed into their nodes."""

    group: OperationEdges
    channels: int
    stride: int
    size: int
    axis_name: str | None

    @nn.compact
    def __call__(self, sources: Sources, weights: jax.Array, *, train: bool) -> jax.Array:
        """Sums `weights[e] · BN(operation(source of e))` into the nodes.

        Args:
          sources: the stage's sources.
          weights: one mixture weight per edge, `[E]`.
          train: as in `Supernet`.

        Returns:
          `[nodes that the stage reaches, B, H', W', C]`.
        """
        if self.group.name == "noise":
            z, scale, shift = self._noise(sources.states), None, None
            rows = tuple(range(len(self.group.edges)))
        else:
            operation = candidate(self.group.name, self.stride)
            z, rows = self._apply(operation, sources, train)
            scale = shift = None
            if operation.normalised:
                moments = Norm(self.axis_name, name="last").moments(z, train=train)
                scale, shift = scale_and_shift(moments)
        factors = jnp.broadcast_to(weights[:, None], (len(rows), self.channels))
        if scale is None or shift is None:
            return mix(z, factors, sources=rows, targets=self.group.targets, size=self.size)
        index = np.array(rows)
        total = mix(z, factors * scale[index], sources=rows, targets=self.group.targets, size=self.size)
        offsets = jnp.zeros((self.size, self.channels), z.dtype).at[np.array(self.group.targets)]
        return total + _spread(offsets.add(factors * shift[index]), total)

    def _apply(self, operation: Operation, sources: Sources, train: bool) -> tuple[jax.Array, tuple[int, ...]]:
        """The outputs, stacked, and for each edge the row of its output."""
        group = self.group
        edges = len(group.edges)
        if operation.per_source or group.is_even:
            read = group.distinct_sources
        else:
            read = group.sources
        if read != tuple(range(sources.states.shape[0])):
            sources = Sources(*(x[np.array(read)] for x in sources))
        shapes = operation.weights(self.channels)
        weights = {
            name: self.param(name, _uniform(fan_in**-0.5), (edges, *shape), sources.states.dtype)
            for name, (shape, fan_in) in shapes.items()
        }
        norms = {name: Norm(self.axis_name, name=name) for name in operation.norms}
        z = operation.apply(sources, weights, lambda name, x: norms[name](x, train=train))
        rows = tuple(read.index(source) for source in group.sources) if operation.per_source else tuple(range(edges))
        return z, rows

    def _noise(self, states: jax.Array) -> jax.Array:
        """Standard normal noise in place of an output (RobustDARTS, space S4)."""
        _, batch, height, width, channels = states.shape
        shape = (batch, -(-height // self.stride), -(-width // self.stride), channels)
        return jax.random.normal(self.make_rng("noise"), (len(self.group.edges), *shape), states.dtype)


class _Preprocess(nn.Module):
    """ReLU, 1×1 convolution, batch norm."""

    features: int
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        shape = (1, x.shape[-1], self.features)
        weights = self.param("pointwise", _uniform(x.shape[-1] ** -0.5), shape, x.dtype)
        y = pointwise(jax.nn.relu(x)[None], weights)[0]
        return Norm(self.axis_name, name="norm")(y, train=train)


class _HalvingPreprocess(nn.Module):
    """ReLU, factorised reduction, batch norm: where the cell before has halved the image."""

    features: int
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        shape = (1, x.shape[-1], self.features // 2)
        even, odd = (self.param(name, _uniform(x.shape[-1] ** -0.5), shape, x.dtype) for name in ("even", "odd"))
        y = factorized_reduce(jax.nn.relu(x)[None], even, odd)[0]
        return Norm(self.axis_name, name="norm")(y, train=train)


def _uniform(bound: float) -> nn.initializers.Initializer:
    """PyTorch's initial values: uniform between −bound and bound."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def _spread(per_channel: jax.Array, like: jax.Array) -> jax.Array:
    """`[…, C]` with axes for batch and image, to go with `[…, B, H, W, C]`."""
    *lead, channels = per_channel.shape
    return per_channel.reshape((1,) * (like.ndim - 4 - len(lead)) + (*lead, 1, 1, 1, channels))
