"""A cell of a genotype: every edge carries one operation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jdarts.genotype import INPUT_STATES, Genotype
from jdarts.nets.drop_path import drop_path
from jdarts.nets.layers import NormalisedSum, Preprocess, first_part, inner_norms
from jdarts.nets.stages import EdgeGroup, discrete_stages
from jdarts.operations import implementation
from jdarts.ops.candidates import Implementation, outputs_before_norm
from jdarts.ops.norm import Plan
from jdarts.space import CellKind


class DiscreteCell(nn.Module):
    """A discrete cell: every node is the sum of its incoming edges, the output joins the channels of some states.

    A node without incoming edges is not computed.

    Attributes:
      genotype: both cells.
      kind: which of them.
      channels: channels of every state.
      reduction_before: whether the older input is twice as large as the newer one.
      axis_name: a mapped axis for synchronised batch statistics.
    """

    genotype: Genotype
    kind: CellKind
    channels: int
    reduction_before: bool
    axis_name: str | None = None

    @nn.compact
    def __call__(self, s0: jax.Array, s1: jax.Array, factors: jax.Array | None, *, train: bool) -> jax.Array:
        """Computes the cell.

        Args:
          s0: output of the cell before the last one, `[B, H, W, …]`.
          s1: output of the last cell.
          factors: drop path's factors for the genotype's edges, `[edges, B]`; None where no path is dropped.
          train: True for batch statistics, False for running statistics.

        Returns:
          `[B, H', W', C · len(concat)]`.
        """
        preprocess = Preprocess(self.channels, self.reduction_before, self.axis_name, affine=True, name="preprocess")
        states = dict(enumerate(preprocess(s0, s1, train=train)))
        arrived: dict[int, list[jax.Array]] = {}
        for index, groups in enumerate(discrete_stages(self.genotype, self.kind)):
            if groups:
                stride = 2 if self.kind == "reduce" and index == 0 else 1
                stage = DiscreteStage(groups, stride, self.axis_name, name=f"stage{index}")
                for node, term in stage(states, factors, train=train):
                    arrived.setdefault(node, []).append(term)
            if index in arrived:
                first, *others = arrived.pop(index)
                states[INPUT_STATES + index] = sum(others, first)
        return jnp.concatenate([states[state] for state in getattr(self.genotype, f"{self.kind}_concat")], axis=-1)


class DiscreteStage(nn.Module):
    """The operations on the edges that leave one stage's sources.

    Attributes:
      groups: the edges, by operation and source.
      stride: of the operations.
      axis_name: a mapped axis for synchronised batch statistics.
    """

    groups: tuple[EdgeGroup, ...]
    stride: int
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, states: Mapping[int, jax.Array], factors: jax.Array | None, *, train: bool
    ) -> list[tuple[int, jax.Array]]:
        """Computes what the stage adds to nodes.

        Args:
          states: the states so far that have inputs, `[B, H, W, C]` each.
          factors: as in `DiscreteCell`.
          train: as in `DiscreteCell`.

        Returns:
          Nodes, counted from 0, and terms of their sums `[B, H', W', C]`.
        """
        outputs = self._outputs(states, train)
        normalised = [output for output in outputs if output.operation.has_weights]
        terms = self._normalised_terms(normalised, factors, train) if normalised else []
        for output in outputs:
            if output.operation.has_weights:
                continue
            for row, edge, node in output.edges():
                term = output.z[row]
                terms.append(
                    (node, term if factors is None or output.operation.identity else drop_path(term, factors[edge]))
                )
        return terms

    def _normalised_terms(
        self, outputs: "list[_Output]", factors: jax.Array | None, train: bool
    ) -> list[tuple[int, jax.Array]]:
        """The terms that have a batch norm: one for each edge where paths are dropped, else one for each node."""
        edges = [(k, row, edge, node) for k, output in enumerate(outputs) for row, edge, node in output.edges()]
        nodes = {(node if factors is None else edge): node for _, _, edge, node in edges}
        places = {key: place for place, key in enumerate(nodes)}
        routes = tuple((k, row, places[node if factors is None else edge], 0) for k, row, edge, node in edges)
        plan = Plan(routes, (1,) * len(places), len(outputs), self.axis_name)
        sums = NormalisedSum(plan, affine=True, name="last")([output.z for output in outputs], train=train)
        return [
            (node, x[0] if factors is None else drop_path(x[0], factors[key]))
            for (key, node), x in zip(nodes.items(), sums)
        ]

    def _outputs(self, states: Mapping[int, jax.Array], train: bool) -> "list[_Output]":
        """The operations' outputs before their last batch norm."""

        channels = next(iter(states.values())).shape[-1]

        def normalise(number: int, members: Sequence[int], stacks: list[jax.Array]) -> list[jax.Array]:
            del members
            return inner_norms(number, stacks, channels, self.axis_name, affine=True, train=train)

        parts = [
            first_part(
                self,
                group.key,
                implementation(group.name, self.stride),
                len(group.edges),
                states[group.source][None],
            )
            for group in self.groups
        ]
        return [
            _Output(group, part.operation, z)
            for group, part, z in zip(self.groups, parts, outputs_before_norm(parts, normalise))
        ]


class _Output(NamedTuple):
    """The output of one operation on one source: rows of `z`, one for each edge or one for all of them."""

    group: EdgeGroup
    operation: Implementation
    z: jax.Array

    def edges(self) -> Iterator[tuple[int, int, int]]:
        """Row of `z`, position in the genotype and node of every edge."""
        for row, (edge, node) in enumerate(zip(self.group.edges, self.group.targets)):
            yield 0 if self.operation.per_source else row, edge, node
