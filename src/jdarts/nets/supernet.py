"""The search network of DARTS: cells whose edges hold all candidate operations at once (paper section 2.2).

The same function written edge by edge is in the tests.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jdarts.errors import InputError
from jdarts.genotype import INPUT_STATES
from jdarts.nets.edge_options import AuxiliarySkip, EdgeFactors, EdgeOptions
from jdarts.nets.layers import (
    NOISE_STREAM,
    Preprocess,
    checked_images,
    classifier,
    global_mean,
)
from jdarts.nets.mixed_stage import SharedStage
from jdarts.nets.stages import stages
from jdarts.nets.stem import STEM_MULTIPLIER, Stem, check_size_after, check_stem, stem_states
from jdarts.ops.precision import wide_type
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
      space: the search space. In one without a reduction cell, the network has none either.
      channels: channels `C` of the first cells; each reduction doubles them. The paper's 16.
      cells: number of cells. The paper's 8. With 1 or 2, all are reduction cells: no gradient reaches the alphas of a normal
        cell, whose genotype is then chance. Give 3 or more for a search, or a space without a normal cell.
      classes: number of classes.
      stem_multiplier: the stem `cifar` has this times `C` channels.
      axis_name: a mapped axis for synchronised batch statistics; None for those of each device.
      dtype: type of the feature maps. Weights, batch statistics and logits are of its `wide_type`: float32 for bfloat16.
      mixture: how the alphas become weights of the operations.
      partial_channels: `k` of PC-DARTS: on every edge the operations see the first `C/k` channels. The others bypass them, as
        2×2 maxima where the stride is 2, with the factor of the edge. A channel shuffle mixes both.
      auxiliary_skip: an additional skip connection on every edge, with the factor `controls["auxiliary_weight"]` (DARTS-):
        `skip` for the identity, `conv` for a 1×1 convolution that starts as the identity, `none` for none. At stride 2, both
        are factorised reductions that share no weights with the operation. Partial channels apply to it as to the operations.
      skip_dropout: whether skip connections of stride 1 drop each number with the probability `controls["skip_dropout"]` in
        training, on every edge differently (P-DARTS).
      drop_path: whether training drops whole edges, for each image differently, with the probability `controls["drop_path"]`.
      skips_unused: whether an operation whose factor on an edge is exactly 0 keeps its running statistics there, as if it were
        not evaluated. Pools then have running statistics for every edge; without it, all edges of a source share them, since
        their batches are the same.
      stem: `cifar`, one convolution at full size; or `imagenet`, three convolutions that halve the image, after which the first
        cell reads images of two sizes, as the networks of DARTS and the search network of PC-DARTS for ImageNet do.
    """

    space: SearchSpace
    channels: int = 16
    cells: int = 8
    classes: int = 10
    stem_multiplier: int = STEM_MULTIPLIER
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False
    mixture: Mixture = SOFTMAX
    partial_channels: int = 1
    auxiliary_skip: AuxiliarySkip = "none"
    skip_dropout: bool = False
    drop_path: bool = False
    skips_unused: bool = False
    stem: Stem = "cifar"

    @property
    def kinds(self) -> tuple[CellKind, ...]:
        """The kind of every cell, in order."""
        return cell_kinds(self.cells, self.space.kinds)

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
          controls: numbers of the epoch, for the mixture and the options of edges; the latter need none to draw the weights.

        Returns:
          Logits `[B, classes]`.

        Raises:
          InputError: images of another type or of a size that a reduction cannot halve, alphas of another space, no
            channels, cells or classes, channels that `partial_channels` does not divide, or a control that is missing.
        """
        for name in ("channels", "cells", "classes", "stem_multiplier"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give 1 or more")
        options = EdgeOptions(
            self.partial_channels, self.auxiliary_skip, self.skip_dropout, self.drop_path, self.skips_unused
        )
        options.check(self.channels)
        numbers = options.numbers(controls, wide_type(self.dtype), train=train, initialising=self.is_initializing())
        images = checked_images(images, self.dtype)
        check_stem(self.stem, self.channels)
        check_size_after(self.stem, images.shape[1], images.shape[2], self.kinds)
        draws = self.mixture.random if train else self.mixture.random_in_evaluation
        key = self.make_rng(NOISE_STREAM) if draws else None
        weights = self.mixture.weights(alphas, self.space, key, controls)
        s0, s1, reduction_before = stem_states(
            self.stem,
            images,
            self.channels,
            axis_name=self.axis_name,
            train=train,
            multiplier=self.stem_multiplier,
        )
        cell_class = nn.remat(Cell, static_argnums=(4,)) if self.remat else Cell
        channels = self.channels
        kinds = self.kinds
        for index, kind in enumerate(kinds):
            channels *= 2 if kind == "reduce" else 1
            cell = cell_class(
                self.space, kind, channels, reduction_before, self.axis_name, options, name=f"cell{index}"
            )
            number = kinds[:index].count(kind)
            factors, (_, edges) = weights.factors(kind, number), weights.of_cell(kind, number)
            of_cell = EdgeFactors(factors, edges if options.reads_edges else None, **numbers)
            s0, s1 = s1, cell(s0, s1, of_cell, train)
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
    options: EdgeOptions = EdgeOptions()

    @nn.compact
    def __call__(self, s0: jax.Array, s1: jax.Array, factors: EdgeFactors, train: bool) -> jax.Array:
        """Computes the cell.

        Args:
          s0: output of the cell before the last one, `[B, H, W, …]`.
          s1: output of the last cell.
          factors: those of the edges.
          train: as in `Supernet`.

        Returns:
          `[B, H', W', C · len(concat)]`.
        """
        sources = Preprocess(self.channels, self.reduction_before, self.axis_name, name="preprocess")(
            s0, s1, train=train
        )
        nodes, sums = [], None
        for index, stage in enumerate(stages(self.space, self.kind)):
            stride = 2 if self.kind == "reduce" and index == 0 else 1
            unfinished = self.space.nodes - index
            mixed = SharedStage(stage, unfinished, stride, self.axis_name, self.options, name=f"stage{index}")
            sources, sums = mixed(sources, sums, factors, train=train)
            nodes.append(sources[0])
        return jnp.concatenate([nodes[state - INPUT_STATES] for state in self.space.concat], axis=-1)
