"""Weights and multiply-adds of every operation on every edge, counted in the programs of the operations."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jdarts.budget.cost import Cost, Measure
from jdarts.describe.convolutional import check_sizes, describe, discrete_network, network_words
from jdarts.genotype import INPUT_STATES, Genotype, genotype_of_cells
from jdarts.nets.counts import Size, network_sizes, total
from jdarts.nets.discrete_cell import DiscreteStage
from jdarts.nets.stages import EdgeGroup
from jdarts.nets.stem import STEM_STRIDE, Stem
from jdarts.operations import NONE
from jdarts.space import CELL_KINDS, CellKind, SearchSpace, cell_kinds

#: Operation of the cells whose network gives the rest.
_PLAIN = "max_pool_3x3"


@dataclasses.dataclass(frozen=True)
class Target:
    """A network to be trained, for which a budget holds, apart from its cells.

    Attributes:
      network: its stem and head, as for `jdarts.describe.describe`.
      channels: of the first cells.
      cells: number of cells.
      classes: number of classes.
      image_size: height and width of the images.
      image_channels: channels of the images.
    """

    network: Stem
    channels: int
    cells: int
    classes: int
    image_size: int
    image_channels: int

    def __str__(self) -> str:
        """The network in a few words."""
        shape = (self.image_size, self.image_size, self.image_channels)
        return network_words(self.network, self.channels, self.cells, self.classes, shape)


class Place(NamedTuple):
    """Where operations stand: the arguments that decide what they cost.

    Attributes:
      channels: of their inputs and outputs.
      size: height and width of their inputs.
      stride: 1 or 2.
    """

    channels: int
    size: int
    stride: int


def target(
    space: SearchSpace,
    network: Stem = "cifar",
    *,
    channels: int | None = None,
    cells: int | None = None,
    classes: int | None = None,
    image_size: int | None = None,
    image_channels: int = 3,
) -> Target:
    """The network of a description: what is not given is that of the paper's network.

    Raises:
      InputError: a size out of its bounds.
    """
    sizes = {"channels": channels, "cells": cells, "classes": classes, "image_size": image_size}
    check_sizes(**sizes, image_channels=image_channels)
    model, size = discrete_network(plain_cells(space), network, **sizes)
    return Target(network, model.channels, model.cells, model.classes, size, image_channels)


def counted_costs(space: SearchSpace, network: Target) -> dict[Measure, Cost]:
    """Weights and multiply-adds of networks of a space's cells; nothing is computed or compiled.

    The sum over a network's operations is its count by `jdarts.describe.describe`, to the unit.

    Args:
      space: the search space.
      network: everything but the cells.

    Raises:
      InputError: images that the network cannot read.
    """
    plain = plain_cells(space)
    whole = total(describe(plain, **dataclasses.asdict(network)).parts)
    names = operation_names(space)
    sizes = functools.cache(lambda place: operation_sizes(names, place))
    costs: dict[Measure, Cost] = {}
    for measure in ("weights", "multiply_adds"):
        tables = summed(space, network, lambda name, place: getattr(sizes(place)[name], measure))  # noqa: B023
        costs[measure] = Cost(measure, getattr(whole, measure), tables)
    return costs


def operation_names(space: SearchSpace) -> tuple[str, ...]:
    """All operations of a space but `none`, in the order of their first edge."""
    names = (name for kind in space.kinds for edge in space.operations(kind) for name in edge)
    return tuple(dict.fromkeys(name for name in names if name != NONE))


def plain_cells(space: SearchSpace) -> Genotype:
    """Cells with a space's nodes and output whose operations have no weights and no multiply-adds."""
    cell = ((_PLAIN, 0),) * space.nodes
    return genotype_of_cells(dict.fromkeys(space.kinds, cell), space.concat, 1)


def operation_places(network: Target, kinds: Sequence[CellKind]) -> dict[tuple[CellKind, bool], Counter[Place]]:
    """Where the operations of each kind of cell stand in a network, and how often.

    Args:
      network: the network.
      kinds: of the cells that there are.

    Returns:
      By kind of cell, and whether an edge starts at an input of the cell, the number of cells at each place.
    """
    found: dict[tuple[CellKind, bool], Counter[Place]] = {
        (kind, at_input): Counter() for kind in CELL_KINDS for at_input in (True, False)
    }
    channels, size = network.channels, network.image_size // STEM_STRIDE[network.network]
    for kind in cell_kinds(network.cells, kinds):
        stride = 2 if kind == "reduce" else 1
        channels *= stride
        found[kind, True][Place(channels, size, stride)] += 1
        size //= stride
        found[kind, False][Place(channels, size, 1)] += 1
    return found


def summed(
    space: SearchSpace, network: Target, of_operation: Callable[[str, Place], int]
) -> dict[CellKind, np.ndarray]:
    """The tables of a cost: for each kind, edge and operation the sum over the cells.

    Args:
      space: the search space.
      network: everything but the cells.
      of_operation: the cost of an operation at a place.
    """
    where = operation_places(network, space.kinds)
    tables: dict[CellKind, np.ndarray] = {}
    for kind in space.kinds:
        table = np.zeros((space.num_edges, space.width(kind)), np.int64)
        for edge, ((source, _), names) in enumerate(zip(space.edges, space.operations(kind))):
            cells = where[kind, source < INPUT_STATES]
            for column, name in enumerate(names):
                if name != NONE:
                    table[edge, column] = sum(count * of_operation(name, place) for place, count in cells.items())
        tables[kind] = table
    return tables


def operation_sizes(names: tuple[str, ...], place: Place) -> Mapping[str, Size]:
    """Weights and multiply-adds of operations on one edge of a discrete cell, with their batch norms."""
    parts = network_sizes(operation_stage(names, place.stride), (place.size, place.size, place.channels))
    return {name: parts.get(_part(name), Size(0, 0)) for name in names}


def operation_stage(names: tuple[str, ...], stride: int) -> nn.Module:
    """A module `(state [B, H, W, C], train) -> outputs` of one edge for each operation, as in a discrete cell."""
    return _Edges(names, stride)


class _Edges(nn.Module):
    """One edge for each operation, all from the same state."""

    operations: tuple[str, ...]
    stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, state: jax.Array, *, train: bool) -> list[list[tuple[int, jax.Array]]]:
        stages = [
            DiscreteStage((EdgeGroup(name, 0, (0,), (0,)),), self.stride, name=_part(name)) for name in self.operations
        ]
        return [stage({0: state}, None, train=train) for stage in stages]


def _part(name: str) -> str:
    return f"edge_{name}"
