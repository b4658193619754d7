"""The auxiliary skip connection of mixed edges, which carries what a skip connection would (Chu et al., DARTS-, 2021).

At stride 1 it is the identity, or a 1×1 convolution that starts as the identity; at stride 2 a factorised reduction with a
batch norm. Its weights are not those of the candidate operation.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jdarts.nets.edge_options import AuxiliarySkip
from jdarts.nets.stages import OperationEdges, Stage
from jdarts.operations import AUXILIARY_SKIP, SKIP, implementation
from jdarts.ops.candidates import Implementation, Weights, WeightShape
from jdarts.ops.pointwise import pointwise


def auxiliary_edges(stage: Stage) -> OperationEdges:
    """The auxiliary skip connections of a stage, one on every edge."""
    numbers, sources, targets = zip(*stage.edges)
    return OperationEdges(AUXILIARY_SKIP, numbers, (0,) * len(numbers), sources, targets)


def auxiliary_operation(kind: AuxiliarySkip, stride: int) -> Implementation:
    """The computation of auxiliary skip connections at stride 1 or 2."""
    if kind == "conv" and stride == 1:
        return Implementation(_convolution, weights=_matrix, normalised=False)
    return implementation(SKIP, stride)


def _convolution(states: jax.Array, weights: Weights) -> jax.Array:
    edges = weights["pointwise"].shape[0]
    return pointwise([jnp.repeat(states, edges // states.shape[0], axis=0)], [weights["pointwise"]])[0]


def _matrix(channels: int) -> Mapping[str, WeightShape]:
    return {"pointwise": WeightShape((channels, channels), None)}
