"""The command `python -m jdarts.describe GENOTYPE`: the cells, and the size of a network of them."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import jax
import jax.numpy as jnp
import tyro

from jdarts import zoo
from jdarts.derivation import space_of
from jdarts.describe.recurrent import RecurrentDescription, RecurrentKind, describe_recurrent
from jdarts.errors import InputError
from jdarts.genotype import AnyGenotype, Genotype, RecurrentGenotype, nodes_of
from jdarts.nets.counts import Size, network_sizes, total
from jdarts.nets.discrete import auxiliary_head_reads, cifar_network, imagenet_network
from jdarts.nets.supernet import Supernet
from jdarts.report import draw_genotype
from jdarts.report.cell_text import cells_text, table_text
from jdarts.resolve import find_any_genotype, language_sizes, search_record
from jdarts.runs.bounds import CELLS, CHANNELS, Bounds, option
from jdarts.space import CELL_KINDS, SearchSpace, cell_kinds, uniform_space

Kind = Literal["cifar", "imagenet", "search"]
_DISCRETE = {"cifar": cifar_network, "imagenet": imagenet_network}
_CELLS = ("convolutional", "recurrent")
_OF_IMAGES = ("channels", "cells", "classes", "image_size", "image_channels")
_OF_TEXT = ("vocabulary", "width")
_OPTIONAL = tyro.conf.arg(metavar="INT", help_behavior_hint="")


@dataclasses.dataclass(frozen=True)
class DescribeConfig:
    """Shows a genotype's cells, and how large a network of them is.

    For convolutional cells that is weights and multiply-adds: those of convolutions and linear layers for one image, without
    the auxiliary head. For recurrent cells it is the weights of a language model, its embedding counted once.

    Attributes:
      genotype: the name of a published cell, a file, the folder of a run, or the text form. A name that published cells of
        both kinds have means the convolutional one, unless the network is one of recurrent cells.
      network: cifar, the paper's network for CIFAR-10; imagenet, the one for ImageNet; search, the search network with all
        operations on every edge: that of the search whose run folder is given, else the paper's with as many nodes. For
        recurrent cells: ptb, the paper's language model for Penn Treebank; wikitext2, the one for WikiText-2; search-ptb,
        the search network for Penn Treebank with as many nodes (default: cifar, or ptb for a recurrent cell; search-ptb for
        the folder of a search on text).
      json: print JSON: params (without auxiliary head), and for convolutional cells params_auxiliary (with it),
        multiply_adds, and more.
      draw: also draw the cells into this file (.svg, .png or .pdf).
      channels: channels of the first cells (default: 36 for cifar, 48 for imagenet, 16 for search).
      cells: number of cells (default: 20, 14, 8).
      classes: number of classes (default: 10, 1000, 10).
      image_size: height and width of the images (default: 32, 224, 32).
      image_channels: channels of the images (default: 3).
      vocabulary: words of the language model (default: that of the run on text whose folder is given, else 10,000 for ptb
        and search-ptb, 33,278 for wikitext2).
      width: size of its embedding and hidden states (default: that of the run, else 850 for ptb, 700 for wikitext2, 300 for
        search-ptb).
    """

    genotype: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="GENOTYPE", help_behavior_hint="")]
    network: Annotated[
        Kind | RecurrentKind | None,
        tyro.conf.arg(metavar=f"{{{','.join((*get_args(Kind), *get_args(RecurrentKind)))}}}", help_behavior_hint=""),
    ] = None
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")] = False
    draw: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    channels: Annotated[int | None, _OPTIONAL] = None
    cells: Annotated[int | None, _OPTIONAL] = None
    classes: Annotated[int | None, _OPTIONAL] = None
    image_size: Annotated[int | None, _OPTIONAL] = None
    image_channels: Annotated[int | None, _OPTIONAL] = None
    vocabulary: Annotated[int | None, _OPTIONAL] = None
    width: Annotated[int | None, _OPTIONAL] = None

    def given(self, names: tuple[str, ...]) -> dict[str, int]:
        """Those of these options that were given."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}


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

    def to_json(self) -> dict[str, Any]:
        """As JSON data. `params_auxiliary` is the number with the auxiliary head, null where there is none."""
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
                part: {"params": own.weights, "multiply_adds": own.multiply_adds} for part, own in self.parts.items()
            },
            "genotype": json.loads(self.genotype.to_json()),
        }

    def to_text(self) -> str:
        """As text: the cells, the network, a table of its parts."""
        size, (height, width, channels) = total(self.parts), self.image_shape
        weights = f"weights        {size.weights:,}"
        if self.has_auxiliary:
            weights += f" ({total(self.parts, auxiliary=True).weights:,} with the auxiliary head)"
        kinds = dict(zip((f"cell{index}" for index in range(self.cells)), cell_kinds(self.cells)))
        rows = [
            [
                part.replace("cell", "cell ") if part in kinds else part,
                kinds.get(part, ""),
                own.weights,
                own.multiply_adds,
            ]
            for part, own in self.parts.items()
        ]
        return "\n\n".join(
            [
                str(self.genotype),
                cells_text(self.genotype),
                f"{self.network} network: {self.channels} channels, {self.cells} cells, {self.classes} classes, "
                f"images {height}×{width}×{channels}\n{weights}\nmultiply-adds  {size.multiply_adds:,}",
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
    """Counts a network's weights and multiply-adds; what is not given is the paper's. Nothing is compiled.

    Args:
      genotype: the cells.
      network: `cifar`, `imagenet`, or `search` for the search network.
      channels: channels of the first cells.
      cells: number of cells.
      classes: number of classes.
      image_size: height and width of the images.
      image_channels: channels of the images.
      space: of the search network; the paper's operations on as many nodes as the genotype has, where it is not given.

    Raises:
      InputError: settings that make no network.
    """
    given = {"channels": channels, "cells": cells, "classes": classes, "image_size": image_size}
    for name, value in (given | {"image_channels": image_channels}).items():
        if value is not None:
            _BOUNDS[name].check(name, value)
    settings: Any = {name: given[name] for name in ("channels", "cells", "classes") if given[name] is not None}
    inputs = ()
    if network == "search":
        space = space or _space_around(genotype)
        made: Any = Supernet(space, **settings)
        size = image_size or 32
        shapes = {kind: jax.ShapeDtypeStruct((space.num_edges, space.width(kind)), jnp.float32) for kind in CELL_KINDS}
        inputs = (shapes,)
    else:
        made = _DISCRETE[network](genotype, **settings)
        size = image_size or (32 if network == "cifar" else 224)
        made = made.clone(auxiliary=auxiliary_head_reads(made, size))
    shape = (size, size, image_channels)
    parts = network_sizes(made, shape, *inputs)
    return Description(genotype, network, made.channels, made.cells, made.classes, shape, parts)


_BOUNDS = {
    "channels": CHANNELS,
    "cells": CELLS,
    "classes": Bounds(1, 1_000_000_000),
    "image_size": Bounds(1, 65_536),
    "image_channels": Bounds(1, 65_536),
}


def _space_around(genotype: Genotype) -> SearchSpace:
    """The paper's operations on as many nodes as the genotype has."""
    nodes = {len(nodes_of(getattr(genotype, kind), genotype.edges_per_node)) for kind in CELL_KINDS}
    if len(nodes) > 1:
        raise InputError(f"the cells have {' and '.join(map(str, sorted(nodes)))} nodes; no search network has both")
    (count,) = nodes
    return uniform_space(nodes=count)


def main() -> None:
    """Parses the command line and prints the description."""
    config = tyro.cli(DescribeConfig, prog="python -m jdarts.describe")
    found = _described(config)
    if config.draw is not None:
        draw_genotype(found.genotype, config.draw)
    print(json.dumps(found.to_json(), indent=1) if config.json else found.to_text())


def _described(config: DescribeConfig) -> Description | RecurrentDescription:
    genotype = _genotype(config)
    recurrent = isinstance(genotype, RecurrentGenotype)
    sizes, searched = (recurrent and language_sizes(config.genotype)) or ({}, False)
    own = ("search-ptb" if searched else "ptb") if recurrent else "cifar"
    network = config.network or own
    for name in config.given(_OF_IMAGES if recurrent else _OF_TEXT):
        raise InputError(
            f"{option(name)} is for networks of {_CELLS[not recurrent]} cells, the {network} network is one of "
            f"{_CELLS[recurrent]} cells; leave {option(name)} out"
        )
    if isinstance(genotype, RecurrentGenotype):
        # A network that is not the run's own is the paper's.
        known = sizes if network == own else {}
        return describe_recurrent(genotype, cast(RecurrentKind, network), **{**known, **config.given(_OF_TEXT)})
    space = None
    if network == "search" and (record := search_record(config.genotype)):
        found = space_of(record)
        space = found if isinstance(found, SearchSpace) else None
    return describe(genotype, cast(Kind, network), space=space, **config.given(_OF_IMAGES))


def _genotype(config: DescribeConfig) -> AnyGenotype:
    """The genotype, of the kind that the network is made of."""
    if config.network is None:
        return find_any_genotype(config.genotype)
    wants_recurrent = config.network in get_args(RecurrentKind)
    published = zoo.RECURRENT_CELLS if wants_recurrent else zoo.CELLS
    found = published.get(config.genotype) or find_any_genotype(config.genotype)
    is_recurrent = isinstance(found, RecurrentGenotype)
    if is_recurrent != wants_recurrent:
        *others, last = get_args(RecurrentKind if is_recurrent else Kind)
        raise InputError(
            f"the genotype is {'a recurrent cell' if is_recurrent else 'a pair of convolutional cells'}, the "
            f"{config.network} network is one of {_CELLS[wants_recurrent]} cells; give --network {', '.join(others)} or "
            f"{last}, or leave it out"
        )
    return found
