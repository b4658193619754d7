"""The size of a network of convolutional cells: weights and multiply-adds, part by part."""

import dataclasses
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.nets.counts import Size, network_sizes, total
from jdarts.nets.discrete import DiscreteNetwork, auxiliary_head_reads, cifar_network, imagenet_network
from jdarts.nets.stem import NATIVE_SIZE, Stem
from jdarts.nets.supernet import Supernet
from jdarts.report.cell_text import cells_text, table_text
from jdarts.rich_forms import text_html
from jdarts.runs.bounds import CELLS, CHANNELS, Bounds
from jdarts.space import SearchSpace, cell_kinds, uniform_space

Kind = Literal["cifar", "imagenet", "search", "search-imagenet"]
#: The search networks, with their stems.
SEARCH_STEMS: Mapping[str, Stem] = MappingProxyType({"search": "cifar", "search-imagenet": "imagenet"})
_DISCRETE = {"cifar": cifar_network, "imagenet": imagenet_network}


@dataclasses.dataclass(frozen=True)
class Description:
    """A genotype and the size of a network of its cells.

    Attributes:
      genotype: the cells.
      network: which network.
      channels: channels of its first cells.
      cells: number of its cells.
      classes: number of its classes.
      image_shape: `(H, W, C)` of its images.
      parts: size of each part, in order; the auxiliary head, if there is one, last.
    """

    genotype: Genotype
    network: Kind
    channels: int
    cells: int
    classes: int
    image_shape: tuple[int, int, int]
    parts: dict[str, Size]

    @property
    def has_auxiliary(self) -> bool:
        """Whether the network can have an auxiliary head for these images."""
        return "auxiliary" in self.parts

    def _repr_html_(self) -> str:
        return text_html(self.to_text(), self.genotype)

    def to_json(self) -> dict[str, Any]:
        """As JSON data. `params_auxiliary` is the number with the auxiliary head, null if there is none."""
        size = total(self.parts)
        return {
            "network": self.network,
            "channels": self.channels,
            "cells": self.cells,
            "classes": self.classes,
            "image_shape": list(self.image_shape),
            "params": size.weights,
            "params_auxiliary": total(self.parts, auxiliary=True).weights if self.has_auxiliary else None,
            "multiply_adds": size.multiply_adds,
            "parts": {
                part: {"params": part_size.weights, "multiply_adds": part_size.multiply_adds}
                for part, part_size in self.parts.items()
            },
            "genotype": json.loads(self.genotype.to_json()),
        }

    def to_text(self) -> str:
        """As text: the cells, the network, a table of its parts."""
        size = total(self.parts)
        weights = f"weights        {size.weights:,}"
        if self.has_auxiliary:
            weights += f" ({total(self.parts, auxiliary=True).weights:,} with the auxiliary head)"
        kinds = dict(zip((f"cell{index}" for index in range(self.cells)), cell_kinds(self.cells, self.genotype.kinds)))
        rows = [
            [
                part.replace("cell", "cell ") if part in kinds else part,
                kinds.get(part, ""),
                part_size.weights,
                part_size.multiply_adds,
            ]
            for part, part_size in self.parts.items()
        ]
        return "\n\n".join(
            [
                str(self.genotype),
                cells_text(self.genotype),
                f"{network_words(self.network, self.channels, self.cells, self.classes, self.image_shape)}\n{weights}\n"
                f"multiply-adds  {size.multiply_adds:,}",
                table_text(("part", "kind", "weights", "multiply-adds"), rows),
            ]
        )


def describe(
    genotype: Genotype,
    network: Kind = "cifar",
    *,
    channels: int | None = None,
    cells: int | None = None,
    classes: int | None = None,
    image_size: int | None = None,
    image_channels: int = 3,
    space: SearchSpace | None = None,
) -> Description:
    """Counts a network's weights and multiply-adds, by default those of the paper's network. Nothing is compiled.

    Args:
      genotype: the cells.
      network: `cifar`, `imagenet`, or `search` for the search network, `search-imagenet` for that with the stem for ImageNet.
      channels: channels of the first cells.
      cells: number of cells.
      classes: number of classes.
      image_size: height and width of the images.
      image_channels: channels of the images.
      space: of the search network; by default the paper's operations on as many nodes as the genotype has.

    Raises:
      InputError: invalid settings.
    """
    optional = {"channels": channels, "cells": cells, "classes": classes, "image_size": image_size}
    check_sizes(**optional, image_channels=image_channels)
    inputs = ()
    if network == "search" or network == "search-imagenet":
        stem = SEARCH_STEMS[network]
        settings: dict[str, Any] = {"classes": 1000} if stem == "imagenet" else {}
        settings |= {name: optional[name] for name in ("channels", "cells", "classes") if optional[name] is not None}
        space = space or _space_around(genotype)
        model: Any = Supernet(space, **settings, stem=stem)
        size = image_size or NATIVE_SIZE[stem]
        shapes = {kind: jax.ShapeDtypeStruct((space.num_edges, space.width(kind)), jnp.float32) for kind in space.kinds}
        inputs = (shapes,)
    else:
        model, size = discrete_network(genotype, network, **optional)
        model = model.clone(auxiliary=auxiliary_head_reads(model, size))
    shape = (size, size, image_channels)
    parts = network_sizes(model, shape, *inputs)
    return Description(genotype, network, model.channels, model.cells, model.classes, shape, parts)


def network_words(network: Kind, channels: int, cells: int, classes: int, image_shape: tuple[int, int, int]) -> str:
    """A network in a few words; arguments as the fields of `Description`."""
    height, width, depth = image_shape
    return f"{network} network: {channels} channels, {cells} cells, {classes} classes, images {height}×{width}×{depth}"


def check_sizes(**sizes: int | None) -> None:
    """Checks sizes of a network by their names as `describe` has them; None passes.

    Raises:
      InputError: one is out of its bounds.
    """
    for name, value in sizes.items():
        if value is not None:
            _BOUNDS[name].check(name, value)


def discrete_network(
    genotype: Genotype,
    network: Stem,
    *,
    channels: int | None = None,
    cells: int | None = None,
    classes: int | None = None,
    image_size: int | None = None,
) -> tuple[DiscreteNetwork, int]:
    """The network to be trained, and the size of its images; what is not given is that of the paper's network."""
    settings: Any = {"channels": channels, "cells": cells, "classes": classes}
    model = _DISCRETE[network](genotype, **{name: value for name, value in settings.items() if value is not None})
    return model, image_size or NATIVE_SIZE[network]


_BOUNDS = {
    "channels": CHANNELS,
    "cells": CELLS,
    "classes": Bounds(1, 1_000_000_000),
    "image_size": Bounds(1, 65_536),
    "image_channels": Bounds(1, 65_536),
}


def _space_around(genotype: Genotype) -> SearchSpace:
    """The paper's operations on as many nodes as the genotype has."""
    nodes = {len(genotype.nodes(kind)) for kind in genotype.kinds}
    if len(nodes) > 1:
        raise InputError(f"the cells have {' and '.join(map(str, sorted(nodes)))} nodes; no search network has both")
    (count,) = nodes
    return uniform_space(nodes=count, kinds=genotype.kinds)
