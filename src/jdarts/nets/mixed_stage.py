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
from jdarts.nets.auxiliary_skip import auxiliary_edges, auxiliary_operation
from jdarts.nets.drop_path import drop_path_factors
from jdarts.nets.edge_options import EdgeFactors, EdgeOptions
from jdarts.nets.layers import NOISE_STREAM, NormalisedSum, first_part, inner_norms, operation_weights
from jdarts.nets.node_sums import place, sizes, sums_by_image
from jdarts.nets.partial_channels import bypass, merge_channels, split_channels
from jdarts.nets.stages import OperationEdges, Stage
from jdarts.operations import AUXILIARY_SKIP, implementation
from jdarts.ops.candidates import PartialOutput, jointly, outputs_before_norm
from jdarts.ops.dropout import dropout
from jdarts.ops.norm import Plan
from jdarts.xla.platform import target_platform

#: The sums of unfinished nodes. With partial channels, those of the operations' channels and those of the others.
Sums = jax.Array | tuple[jax.Array | None, jax.Array | None] | None


class MixedStage(nn.Module):
    """All operations on the edges that leave one stage's sources."""

    stage: Stage
    unfinished: int
    stride: int
    axis_name: str | None
    options: EdgeOptions = EdgeOptions()

    @nn.compact
    def __call__(self, states: jax.Array, sums: Sums, factors: EdgeFactors, *, train: bool) -> tuple[jax.Array, Sums]:
        """Adds the stage's edges to the nodes that are not finished, and so finishes the first of them.

        Args:
          states: the stage's sources `[S, B, H, W, C]`.
          sums: the sums of earlier stages, a row for each unfinished node; None in the first stage.
          factors: those of all edges of the cell.
          train: as in `Supernet`.

        Returns:
          The finished node `[1, B, H', W', C]`, and the sums of the others, or None if there are none.
        """
        parts, images = self.options.partial_channels, self._image_factors(states, factors)
        if parts == 1:
            assert not isinstance(sums, tuple)
            return self._mixed(states, sums, factors, images, train)
        of_mixed, of_bypassing = sums if isinstance(sums, tuple) else (None, None)
        seen, bypassing = split_channels(states, parts)
        mixed, of_mixed = self._mixed(seen, of_mixed, factors, images, train)
        shape = {"stage": self.stage, "unfinished": self.unfinished, "stride": self.stride}
        bypassing, of_bypassing = bypass(bypassing, of_bypassing, factors.edges, images, **shape)
        return merge_channels(mixed, bypassing, parts), (of_mixed, of_bypassing)

    def _image_factors(self, states: jax.Array, factors: EdgeFactors) -> jax.Array | None:
        """Factors of the stage's edges and the images, `[edges, B]`, where drop path is active."""
        if factors.drop_path is None:
            return None
        shape, dtype = (len(self.stage.edges), states.shape[1]), factors.operations.dtype
        key = self.make_rng(NOISE_STREAM)
        return drop_path_factors(key, factors.drop_path, shape, dtype, axis_name=self.axis_name)

    def _mixed(
        self,
        states: jax.Array,
        sums: jax.Array | None,
        factors: EdgeFactors,
        images: jax.Array | None,
        train: bool,
    ) -> tuple[jax.Array, jax.Array | None]:
        """`__call__` on the channels that the operations see."""
        outputs = self._outputs(states, factors, train)
        stacks = [output.z for output in outputs]
        numbers = [edge.number for edge in self.stage.edges]
        rows = [edge.target - self.stage.first_node for edge in self.stage.edges]
        routes = [
            (k, row, *(place(rows[numbers.index(edge)]) if images is None else (0, numbers.index(edge))))
            for k, output in enumerate(outputs)
            for row, edge in zip(output.rows, output.group.edges)
        ]
        of_routes = self._factors_of([output.group for output in outputs], factors)
        normalised = [output for output in outputs if output.normalised]
        by_route = self.options.skips_unused
        used = of_routes[: sum(len(output.rows) for output in normalised)] != 0 if by_route else None
        if sums is not None and images is None:
            routes += [(len(stacks), row, *place(row)) for row in range(self.unfinished)]
            stacks.append(sums)
            of_routes = jnp.concatenate([of_routes, jnp.ones(self.unfinished, of_routes.dtype)])
        of_results = sizes(self.unfinished) if images is None else (len(numbers),)
        plan = Plan(tuple(routes), of_results, len(normalised), self.axis_name)
        results = NormalisedSum(plan, by_route=by_route, name="last")(stacks, of_routes, train=train, used=used)
        if images is not None:
            results = sums_by_image(results[0], images, rows, sums, self.unfinished)
        finished, *others = results
        return finished, others[0] if others else None

    def _outputs(self, states: jax.Array, factors: EdgeFactors, train: bool) -> "list[_Output]":
        """The operations' outputs before their last batch norm; operations that have one come first."""
        joint = self._joint_operations(states)
        parts = self._joint_parts(joint, states)
        groups = list(self.stage.operations)
        for n, group in enumerate(groups):
            if n not in parts:
                parts[n] = self._first_part(group, states, factors.skip_dropout)
        if self.options.auxiliary_skip != "none":
            parts[len(groups)] = self._auxiliary_part(states)
            groups.append(auxiliary_edges(self.stage))
        ordered = [parts[n] for n in range(len(parts))]

        def normalise(number: int, members: Sequence[int], stacks: list[jax.Array]) -> list[jax.Array]:
            used = None
            if self.options.skips_unused:
                used = [self._factors_of([groups[n]], factors) != 0 for n in members]
            return inner_norms(number, stacks, states.shape[-1], self.axis_name, train=train, used=used)

        stacks = outputs_before_norm([part for part, _ in ordered], normalise, joint=joint)
        outputs = [
            _Output(group, rows, z, part.operation.normalised)
            for group, (part, rows), z in zip(groups, ordered, stacks)
        ]
        return sorted(outputs, key=lambda output: not output.normalised)

    def _auxiliary_part(self, states: jax.Array) -> tuple[PartialOutput, tuple[int, ...]]:
        """`_first_part` of the auxiliary skip connections."""
        operation = auxiliary_operation(self.options.auxiliary_skip, self.stride)
        edges = self.stage.edges
        rows = (edge.source for edge in edges) if operation.per_source else range(len(edges))
        return first_part(self, AUXILIARY_SKIP, operation, len(edges), states), tuple(rows)

    def _first_part(
        self, group: OperationEdges, states: jax.Array, skip_dropout: jax.Array | None
    ) -> tuple[PartialOutput, tuple[int, ...]]:
        """The first part of an operation on its sources, and for each of its edges the row of the output."""
        operation = implementation(group.name, self.stride)
        if operation.identity and skip_dropout is not None:
            key, copies = self.make_rng(NOISE_STREAM), _of_sources(states, group.sources)
            z = dropout(key, copies, skip_dropout, axis=1, axis_name=self.axis_name)
            return PartialOutput(operation, {}, z), tuple(range(len(group.edges)))
        sources = group.distinct_sources if operation.per_source or group.is_even else group.sources
        states = _of_sources(states, sources)
        edges = range(len(group.edges))
        rows = (sources.index(source) for source in group.sources) if operation.per_source else edges
        part = first_part(self, group.name, operation, len(edges), states, axis_name=self.axis_name)
        return part, tuple(rows)

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

    def _factors_of(self, groups: Sequence[OperationEdges], factors: EdgeFactors) -> jax.Array:
        """The factors of the groups' edges, one after the other."""
        edges, width = factors.operations.shape
        table = factors.operations.reshape(-1)
        if factors.auxiliary_weight is not None:
            of_edges = jnp.ones(edges, table.dtype) if factors.edges is None else factors.edges
            table = jnp.concatenate([table, factors.auxiliary_weight * of_edges])
        chosen = [
            edges * width + edge if group.name == AUXILIARY_SKIP else edge * width + column
            for group in groups
            for edge, column in zip(group.edges, group.columns)
        ]
        picks = np.zeros((len(chosen), table.shape[0]))
        picks[np.arange(len(chosen)), chosen] = 1
        # A product with zeros and ones: gathers become loops on a CPU.
        matrix = jnp.asarray(picks, table.dtype)
        if target_platform() != "gpu":
            return jnp.matmul(matrix, table, precision="highest")
        # On GPUs, a sum is a part of the kernel that computes with its result, unless XLA makes it one of the softmax's kernel.
        return jnp.sum(matrix * jax.lax.optimization_barrier(table)[None], axis=1)


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
