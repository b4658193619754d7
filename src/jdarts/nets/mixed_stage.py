"""A stage of a mixed cell: all operations on the edges that leave the same sources, and the sums of the nodes they lead to.

Weights and computation are stacked over edges: one call for all separable convolutions of a kind that read the same sources,
one sum for a whole stage.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jdarts import native
from jdarts.nets.layers import NormalisedSum, first_part, operation_weights
from jdarts.nets.stages import OperationEdges, Stage
from jdarts.operations import implementation
from jdarts.ops.candidates import PartialOutput, jointly, outputs_before_norm
from jdarts.ops.norm import Plan, identity_plan
from jdarts.xla.platform import target_platform


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
