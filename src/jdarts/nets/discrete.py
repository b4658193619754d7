"""Networks of a genotype's cells, for CIFAR-like images and for ImageNet (paper section 3.1.2, appendix A)."""

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jdarts.errors import InputError
from jdarts.genotype import INPUT_STATES, Genotype, Kind
from jdarts.nets.auxiliary import AuxiliaryHead, head_reads, windows
from jdarts.nets.discrete_cell import DiscreteCell
from jdarts.nets.drop_path import drop_path_factors
from jdarts.nets.layers import checked_images, classifier, global_mean
from jdarts.nets.stem import STEM_STRIDE, Stem, check_size_after, check_stem, stem_states
from jdarts.operations import OPERATIONS
from jdarts.ops.precision import wide_type
from jdarts.space import MAX_CELLS, cell_kinds

#: Stride of the auxiliary head's windows.
AUXILIARY_STRIDE: Mapping[Stem, int] = MappingProxyType({"cifar": 3, "imagenet": 2})


class DiscreteNetwork(nn.Module):
    """A network for images, built of a genotype's cells.

    Reduction cells are at one third and two thirds of the depth, and double the channels; a genotype without such a cell has a
    network without them. `init` draws each weight
    separately, which compiles slowly; `jdarts.nets.initial.from_one_draw` draws all weights at once.

    Attributes:
      genotype: both cells.
      stem: `cifar`, one convolution at full size; or `imagenet`, three convolutions that halve the image, after which the
        first cell reads images of two sizes.
      channels: channels `C` of the first cells.
      cells: number of cells.
      classes: number of classes.
      auxiliary: whether the network has an auxiliary head, at two thirds of its depth.
      axis_name: a mapped axis for synchronised batch statistics; None for those of each device.
      dtype: type of the feature maps. Weights, batch statistics and logits are of its `wide_type`: float32 for bfloat16.
      batch_axis: a mapped axis over which the images are spread, with any batch statistics; drop path then draws as on one
        device.
    """

    genotype: Genotype
    stem: Stem
    channels: int
    cells: int
    classes: int
    auxiliary: bool
    axis_name: str | None = None
    dtype: Any = jnp.float32
    batch_axis: str | None = None

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool, drop_path: float | jax.Array = 0.0
    ) -> tuple[jax.Array, jax.Array | None]:
        """Classifies images.

        Random number streams: `drop_path`, if paths are dropped, and `noise`, if the genotype has that operation.

        Args:
          images: `[B, H, W, channels of the images]`, normalised, of the type of weights.
          train: True for batch statistics (running statistics are updated if `batch_stats` is mutable), drop path and the
            auxiliary head; False for running statistics and neither of the two.
          drop_path: probability with which an edge's output is dropped for an image, from 0 to below 1. The number 0 needs no
            random numbers; an array always does.

        Returns:
          Logits `[B, classes]`, and those of the auxiliary head, or None without it.

        Raises:
          InputError: invalid settings, images of another type, or of a size that a reduction cannot halve or
            the auxiliary head cannot read.
        """
        check_network(self)
        images = checked_images(images, self.dtype)
        _, height, width, _ = images.shape
        check_images_of(self, height, width)
        factors = self._drop_path_factors(images.shape[0], drop_path) if train else None
        s0, s1, reduction_before = stem_states(self.stem, images, self.channels, axis_name=self.axis_name, train=train)
        channels, auxiliary = self.channels, None
        edges = 0
        for index, kind in enumerate(self.kinds):
            channels *= 2 if kind == "reduce" else 1
            cell = DiscreteCell(self.genotype, kind, channels, reduction_before, self.axis_name, name=f"cell{index}")
            count = len(getattr(self.genotype, kind))
            cell_factors = None if factors is None else factors[edges : edges + count]
            s0, s1 = s1, cell(s0, s1, cell_factors, train=train)
            reduction_before, edges = kind == "reduce", edges + count
            if self.auxiliary and index == auxiliary_cell(self.cells) and (train or self.is_initializing()):
                auxiliary = self._auxiliary_head(images)(s1, train=train)
        features = global_mean(s1)
        logits = classifier(self.classes, features, name="classifier")(features)
        return logits, auxiliary if train else None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kind of every cell, in order."""
        return cell_kinds(self.cells, self.genotype.kinds)

    def _auxiliary_head(self, images: jax.Array) -> AuxiliaryHead:
        return AuxiliaryHead(
            self.classes,
            stride=AUXILIARY_STRIDE[self.stem],
            last_norm=self.stem == "cifar",
            place=f"images of {images.shape[1]}×{images.shape[2]} at cell {auxiliary_cell(self.cells)} of {self.cells}",
            axis_name=self.axis_name,
            name="auxiliary",
        )

    def _drop_path_factors(self, batch: int, drop_path: float | jax.Array) -> jax.Array | None:
        """A factor for every edge of every cell and every image; None where no path is dropped."""
        if isinstance(drop_path, (int, float)) and drop_path == 0:
            return None
        edges = sum(len(getattr(self.genotype, kind)) for kind in self.kinds)
        key = self.make_rng("drop_path")
        return drop_path_factors(key, drop_path, (edges, batch), self.dtype, axis_name=self.batch_axis)


def cifar_network(
    genotype: Genotype,
    *,
    channels: int = 36,
    cells: int = 20,
    classes: int = 10,
    auxiliary: bool = True,
    axis_name: str | None = None,
    dtype: Any = jnp.float32,
) -> DiscreteNetwork:
    """The network for CIFAR and other small images; the defaults are the paper's for CIFAR-10 (section 3.2).

    The auxiliary head is the paper's if its input is 8×8 to 10×10, as for images of 32×32; for other images its windows scale
    with the input. If the input is smaller than 4×4, `auxiliary=False` is needed.

    Args:
      genotype: both cells.
      channels: channels of the first cells.
      cells: number of cells.
      classes: number of classes.
      auxiliary: whether there is an auxiliary head.
      axis_name: a mapped axis for synchronised batch statistics.
      dtype: type of the feature maps. Weights, batch statistics and logits are of its `wide_type`: float32 for bfloat16.

    Raises:
      InputError: invalid settings.
    """
    network = DiscreteNetwork(genotype, "cifar", channels, cells, classes, auxiliary, axis_name, dtype)
    check_network(network)
    return network


def imagenet_network(
    genotype: Genotype,
    *,
    channels: int = 48,
    cells: int = 14,
    classes: int = 1000,
    auxiliary: bool = True,
    axis_name: str | None = None,
    dtype: Any = jnp.float32,
) -> DiscreteNetwork:
    """The network for ImageNet's images of 224×224; the defaults are the paper's (section 3.2).

    The arguments are those of `cifar_network`. The auxiliary head has one batch norm fewer, as in the reference code.

    Raises:
      InputError: invalid settings.
    """
    network = DiscreteNetwork(genotype, "imagenet", channels, cells, classes, auxiliary, axis_name, dtype)
    check_network(network)
    return network


def init_shapes(network: DiscreteNetwork, image_channels: int = 3) -> dict[str, Any]:
    """Shapes and types of a network's variables, which do not depend on the size of the images; nothing is computed.

    Returns:
      `{'params': …, 'batch_stats': …}` with `jax.ShapeDtypeStruct`s as leaves.
    """
    size = native_image_size(network)
    images = jax.ShapeDtypeStruct((1, size, size, image_channels), wide_type(network.dtype))
    key = jax.eval_shape(lambda: jax.random.key(0))
    return {"params": {}, "batch_stats": {}} | _variables.eval_shape(network, _operations(network), key, images)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _variables(network: DiscreteNetwork, operations: tuple[Any, ...], key: jax.Array, images: jax.Array) -> Any:
    """New variables of a network, traced once for each network and the operations that its cells' names stand for."""
    del operations
    return network.init(key, images, train=False)


def _operations(network: DiscreteNetwork) -> tuple[Any, ...]:
    """The operations of a network's cells; others may be registered under their names later."""
    cells = network.genotype
    return tuple(OPERATIONS[name].implement for name, _ in (*cells.normal, *cells.reduce))


def native_image_size(network: DiscreteNetwork) -> int:
    """The size of images for which the auxiliary head's input is 8×8 or 7×7, as in the paper.

    32 for the CIFAR network and 224 for the ImageNet network, if they have two reduction cells.
    """
    return (8 if network.stem == "cifar" else 7) * _shrinkage(network.stem, network.kinds)


def auxiliary_head_reads(network: DiscreteNetwork, image_size: int) -> bool:
    """Whether an auxiliary head can read the states at two thirds of the depth, for images of this size."""
    size, rest = divmod(image_size, _shrinkage(network.stem, network.kinds))
    return rest == 0 and head_reads(size)


def auxiliary_windows(stem: Stem, kinds: Sequence[Kind], image_size: int) -> tuple[int, int]:
    """Size and stride of the auxiliary head's windows in a network of cells of these kinds, for images of this size."""
    return windows(image_size // _shrinkage(stem, kinds), AUXILIARY_STRIDE[stem])


def _shrinkage(stem: Stem, kinds: Sequence[Kind]) -> int:
    """The size of the images over that of the last cells' states."""
    return STEM_STRIDE[stem] * 2 ** kinds.count("reduce")


def auxiliary_cell(cells: int) -> int:
    """Index of the cell whose output the auxiliary head reads."""
    return 2 * cells // 3


def check_network(network: DiscreteNetwork) -> None:
    """Checks the settings of a network.

    Raises:
      InputError: an invalid setting, a reduction cell that concatenates states of two sizes, or no normal cell for the network.
    """
    for name in ("channels", "cells", "classes"):
        if getattr(network, name) < 1:
            raise InputError(f"{name} is {getattr(network, name)}; give 1 or more")
    if network.cells > MAX_CELLS:
        raise InputError(f"cells is {network.cells}; a network has at most {MAX_CELLS}")
    check_stem(network.stem, network.channels)
    network.kinds  # noqa: B018  (a cell that the genotype does not have is refused here)
    joined = network.genotype.reduce_concat
    if joined and min(joined) < INPUT_STATES:
        raise InputError(
            f"genotype: reduce_concat is {list(joined)}; a reduction cell's inputs are twice as large as its nodes: "
            f"give only nodes, {INPUT_STATES} and up"
        )


def check_images_of(network: DiscreteNetwork, height: int, width: int) -> None:
    """Checks that a network can read images of a size.

    Raises:
      InputError: an odd size at some reduction.
    """
    check_size_after(network.stem, height, width, network.kinds)
