"""The search network of DARTS: cells whose edges hold all candidate operations at once (paper section 2.2).

Weights and computation are stacked over edges: one call for all separable convolutions of a kind that read the same sources,
one sum for a whole stage. The same function written edge by edge is in the tests.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jdarts import native
from jdarts.errors import InputError
from jdarts.genotype import INPUT_STATES
from jdarts.nets.layers import (
    NOISE_STREAM,
    Convolution,
    NormalisedSum,
    Preprocess,
    check_image_size,
    checked_images,
    classifier,
    first_part,
    global_mean,
    operation_weights,
)
from jdarts.nets.stages import OperationEdges, Stage, stages
from jdarts.operations import implementation
from jdarts.ops.candidates import PartialOutput, jointly, outputs_before_norm
from jdarts.ops.norm import Plan, identity_plan
from jdarts.relaxation import NO_CONTROLS, SOFTMAX, Alphas, Controls, Mixture
from jdarts.relaxation import init_alphas as init_alphas
from jdarts.space import CellKind, SearchSpace, cell_kinds
from jdarts.xla.platform import target_platform


def supernet_compiler_options(*, remat: bool = False) -> dict[str, str | bool]:
    """Options for `jax.jit` that steps of a `Supernet` with `remat` need on CPUs; empty otherwise.

    There, XLA removes the barriers of `jax.checkpoint` early and then merges the recomputation with the first computation: no
    memory would be saved.

    Args:
      remat: whether the network has `remat`.
    """
    return {"xla_disable_hlo_passes": "cse_barrier_expander"} if remat and target_platform() == "cpu" else {}


class Supernet(nn.Module):
    """The DARTS search network for images.

    Attributes:
      space: the search space.
      channels: channels `C` of the first cells; each reduction doubles them. The paper's 16.
      cells: number of cells. The paper's 8. With 1 or 2, all are reduction cells: no gradient reaches the alphas of the normal
        cell, whose genotype is then chance. Give 3 or more for a search.
      classes: number of classes.
      stem_multiplier: the stem has this times `C` channels.
      axis_name: a mapped axis for synchronised batch statistics; None for those of each device.
      dtype: type of the feature maps. Weights, batch statistics and logits are of its `wide_type`: float32 for bfloat16.
      mixture: how the alphas become weights of the operations.
      remat: whether a cell's feature maps are computed again in the backward pass instead of kept (`jax.checkpoint`). Compile
        the step with `supernet_compiler_options(remat=True)`.
    """

    space: SearchSpace
    channels: int = 16
    cells: int = 8
    classes: int = 10
    stem_multiplier: int = 3
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False
    mixture: Mixture = SOFTMAX

    @nn.compact
    def __call__(
        self, images: jax.Array, alphas: Alphas, *, train: bool, controls: Controls = NO_CONTROLS
    ) -> jax.Array:
        """Classifies images.

        Args:
          images: `[B, H, W, channels of the images]`, normalised, of the type of weights.
          alphas: those of the mixture; for the paper's `{'normal': [E, O], 'reduce': [E, O]}`.
          train: True for the statistics of this batch, which update the running statistics if `batch_stats` is mutable; False for
            running statistics.
          controls: numbers of the epoch, for the mixture.

        Returns:
          Logits `[B, classes]`.

        Raises:
          InputError: images of another type or of a size that a reduction cannot halve, alphas of another space, or no
            channels, cells or classes.
        """
        for name in ("channels", "cells", "classes", "stem_multiplier"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give 1 or more")
        images = checked_images(images, self.dtype)
        check_image_size(images.shape[1], images.shape[2], self.cells)
        draws = self.mixture.random if train else self.mixture.random_in_evaluation
        key = self.make_rng(NOISE_STREAM) if draws else None
        weights = self.mixture.weights(alphas, self.space, key, controls)
        stem = Convolution(self.stem_multiplier * self.channels, axis_name=self.axis_name, name="stem")
        states = stem(images, train=train)
        s0, s1 = states, states
        cell_class = nn.remat(Cell, static_argnums=(4,)) if self.remat else Cell
        channels, reduction_before = self.channels, False
        kinds = cell_kinds(self.cells)
        for index, kind in enumerate(kinds):
            channels *= 2 if kind == "reduce" else 1
            cell = cell_class(self.space, kind, channels, reduction_before, self.axis_name, name=f"cell{index}")
            operations, edges = weights.of_cell(kind, kinds[:index].count(kind))
            factors = operations if edges is None else operations * edges[:, None]
            s0, s1 = s1, cell(s0, s1, factors, train)
            reduction_before = kind == "reduce"
        features = global_mean(s1)
        return classifier(self.classes, features, name="classifier")(features)


class Cell(nn.Module):
    """A cell of mixed edges: every node is the sum of its incoming edges, the output joins the nodes' channels."""

    space: SearchSpace
    kind: CellKind
    channels: int
    reduction_before: bool
    axis_name: str | None

    @nn.compact
    def __call__(self, s0: jax.Array, s1: jax.Array, weights: jax.Array, train: bool) -> jax.Array:
        """Computes the cell.

        Args:
          s0: output of the cell before the last one, `[B, H, W, …]`.
          s1: output of the last cell.
          weights: mixture weights `[E, O]`.
          train: as in `Supernet`.

        Returns:
          `[B, H', W', C · len(concat)]`.
        """
        sources = Preprocess(self.channels, self.reduction_before, self.axis_name, name="preprocess")(
            s0, s1, train=train
        )
        nodes, unfinished = [], None
        for index, stage in enumerate(stages(self.space, self.kind)):
            stride = 2 if self.kind == "reduce" and index == 0 else 1
            mixed = SharedStage(stage, self.space.nodes - index, stride, self.axis_name, name=f"stage{index}")
            sources, unfinished = mixed(sources, unfinished, weights, train=train)
            nodes.append(sources[0])
        return jnp.concatenate([nodes[state - INPUT_STATES] for state in self.space.concat], axis=-1)


class MixedStage(nn.Module):
    """All operations on the edges that leave one stage's sources."""

    stage: Stage
    unfinished: int
    stride: int
    axis_name: str | None

    @nn.compact
    def __call__(
        self, states: jax.Array, sums: jax.Array | None, weights: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array | None]:
        """Adds the stage's edges to the nodes that are not finished, and so finishes the first of them.

        Args:
          states: the stage's sources `[S, B, H, W, C]`.
          sums: the sums of earlier stages, a row for each unfinished node; None in the first stage.
          weights: mixture weights `[E, O]` of the whole cell.
          train: as in `Supernet`.

        Returns:
          The finished node `[1, B, H', W', C]`, and the sums of the others, or None if there are none.
        """
        outputs = self._outputs(states, train)
        stacks = [output.z for output in outputs]
        first_node = min(node for output in outputs for node in output.group.targets)
        routes = [
            (k, row, *_place(node - first_node))
            for k, output in enumerate(outputs)
            for row, node in zip(output.rows, output.group.targets)
        ]
        factors = self._mixture_weights([output.group for output in outputs], weights)
        if sums is not None:
            routes += [(len(stacks), row, *_place(row)) for row in range(self.unfinished)]
            stacks.append(sums)
            factors = jnp.concatenate([factors, jnp.ones(self.unfinished, factors.dtype)])
        sizes = (1, self.unfinished - 1) if self.unfinished > 1 else (1,)
        normalised = sum(output.normalised for output in outputs)
        plan = Plan(tuple(routes), sizes, normalised, self.axis_name)
        finished, *others = NormalisedSum(plan, name="last")(stacks, factors, train=train)
        return finished, others[0] if others else None

    def _outputs(self, states: jax.Array, train: bool) -> "list[_Output]":
        """The operations' outputs before their last batch norm; operations that have one come first."""

        def normalise(stacks: list[jax.Array]) -> tuple[jax.Array, ...]:
            plan = identity_plan([stack.shape[0] for stack in stacks], self.axis_name)
            return NormalisedSum(plan, name="middle")(stacks, train=train)

        joint = self._joint_operations(states)
        parts = self._joint_parts(joint, states)
        for n, group in enumerate(self.stage.operations):
            if n not in parts:
                parts[n] = self._first_part(group, states)
        ordered = [parts[n] for n in range(len(parts))]
        stacks = outputs_before_norm([part for part, _ in ordered], normalise, joint=joint)
        outputs = [
            _Output(group, rows, z, part.operation.normalised)
            for group, (part, rows), z in zip(self.stage.operations, ordered, stacks)
        ]
        return sorted(outputs, key=lambda output: not output.normalised)

    def _first_part(self, group: OperationEdges, states: jax.Array) -> tuple[PartialOutput, tuple[int, ...]]:
        """The first part of an operation on its sources, and for each of its edges the row of the output."""
        operation = implementation(group.name, self.stride)
        sources = group.distinct_sources if operation.per_source or group.is_even else group.sources
        states = _of_sources(states, sources)
        edges = range(len(group.edges))
        rows = (sources.index(source) for source in group.sources) if operation.per_source else edges
        return first_part(self, group.name, operation, len(edges), states), tuple(rows)

    def _joint_operations(self, states: jax.Array) -> tuple[int, ...]:
        """The numbers of operations to compute `jointly`, those of kernels of one size next to each other.

        Native functions compute them one by one. On CPUs, programs of joint ones take longer to compile; on TPUs, they have more
        operations.
        """
        if target_platform() != "gpu" or native.is_native_here("depthwise_forward", states.dtype):
            return ()
        kernels = {n: implementation(group.name, self.stride).kernel for n, group in enumerate(self.stage.operations)}
        found = sorted((kernel.size, n) for n, kernel in kernels.items() if kernel)
        groups = self.stage.operations
        return tuple(n for _, n in found if groups[n].sources == groups[found[0][1]].sources and groups[n].is_even)

    def _joint_parts(self, joint: Sequence[int], states: jax.Array) -> dict[int, tuple[PartialOutput, tuple[int, ...]]]:
        """`_first_part` of operations that are computed `jointly`."""
        if not joint:
            return {}
        groups = [self.stage.operations[n] for n in joint]
        states = _of_sources(states, groups[0].distinct_sources)
        operations = [implementation(group.name, self.stride) for group in groups]
        weights = [
            operation_weights(self, group.name, operation, len(group.edges), states)
            for group, operation in zip(groups, operations)
        ]
        firsts = jointly(states[None], operations, weights, number=1, stride=self.stride)
        rows = tuple(range(len(groups[0].edges)))
        parts = [PartialOutput(*part) for part in zip(operations, weights, firsts)]
        return {n: (part, rows) for n, part in zip(joint, parts)}

    def _mixture_weights(self, groups: Sequence[OperationEdges], weights: jax.Array) -> jax.Array:
        """The mixture weights of the groups' edges, one after the other."""
        chosen = [place for group in groups for place in zip(group.edges, group.columns)]
        picks = np.zeros((len(chosen), *weights.shape))
        for row, place in enumerate(chosen):
            picks[(row, *place)] = 1
        # A product with zeros and ones: gathers become loops on a CPU.
        flat = jnp.asarray(picks.reshape(len(chosen), -1), weights.dtype)
        return jnp.matmul(flat, weights.reshape(-1), precision="highest")


#: Traced once for all cells in which a stage has the same shapes.
SharedStage = nn.jit(MixedStage, static_argnames=("train",))


class _Output(NamedTuple):
    """The output of one operation on all its edges: rows of `z`, one for each edge or one for each source."""

    group: OperationEdges
    rows: tuple[int, ...]
    z: jax.Array
    normalised: bool


def _of_sources(states: jax.Array, sources: tuple[int, ...]) -> jax.Array:
    return states if sources == tuple(range(states.shape[0])) else states[np.array(sources)]


def _place(row: int) -> tuple[int, int]:
    """Which result of a stage has the sum of an unfinished node, and in which row: the first node is a result by itself."""
    return (0, 0) if row == 0 else (1, row - 1)
