"""The command `python -m jdarts.describe GENOTYPE`: the cells, and the size of a network of them."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, cast, get_args

import tyro

from jdarts import zoo
from jdarts.command import program_name
from jdarts.derivation import space_of
from jdarts.describe.convolutional import SEARCH_STEMS, Description, Kind, describe
from jdarts.describe.latency import LatencyDescription, describe_latency
from jdarts.describe.recurrent import RecurrentDescription, RecurrentKind, describe_recurrent
from jdarts.errors import InputError
from jdarts.genotype import AnyGenotype, RecurrentGenotype
from jdarts.named_spaces import find_space
from jdarts.nets.stem import Stem
from jdarts.plugins import PluginOption, load_plugins
from jdarts.report import draw_genotype
from jdarts.report.drawing import check_suffix
from jdarts.resolve import find_any_genotype, language_sizes, search_record
from jdarts.runs.bounds import option
from jdarts.space import SearchSpace

_CELLS = ("convolutional", "recurrent")
_OF_IMAGES = ("channels", "cells", "classes", "image_size", "image_channels")
_OF_TEXT = ("vocabulary", "width")
_OPTIONAL = tyro.conf.arg(metavar="INT", help_behavior_hint="")


@dataclasses.dataclass(frozen=True)
class DescribeConfig:
    """Shows a genotype's cells, and the size of a network of them.

    For convolutional cells the size is weights and multiply-adds; the latter are those of convolutions and linear layers for one
    image, without the auxiliary head. For recurrent cells it is the weights of a language model, whose embedding counts once.

    Attributes:
      genotype: the name of a published cell, a file, the folder of a run, or the text form. A name of published
        cells of both kinds means the convolutional one, unless the network is for recurrent cells.
      network: cifar, the paper's network for CIFAR-10; imagenet, the one for ImageNet; search, the search network with all
        operations on every edge: that of the search whose run folder is given, else the paper's with as many nodes;
        search-imagenet, the same with a stem that halves the images three times. For
        recurrent cells: ptb, the paper's language model for Penn Treebank; wikitext2, the one for WikiText-2; search-ptb,
        the search network for Penn Treebank with as many nodes (default: cifar, or ptb for a recurrent cell; search-ptb for
        the folder of a search on text).
      json: print JSON: params (without auxiliary head), and for convolutional cells params_auxiliary (with it),
        multiply_adds, and more.
      draw: also draw the cells into this file (.svg, .png or .pdf).
      channels: channels of the first cells (default: 36 for cifar, 48 for imagenet, 16 for search and search-imagenet).
      cells: number of cells (default: 20, 14, 8, 8).
      classes: number of classes (default: 10, 1000, 10, 1000).
      image_size: height and width of the images (default: 32, 224, 32, 224).
      image_channels: channels of the images (default: 3).
      vocabulary: words of the language model (default: that of the run on text whose folder is given, else 10,000 for ptb
        and search-ptb, 33,278 for wikitext2).
      width: size of its embedding and hidden states (default: that of the run, else 850 for ptb, 700 for wikitext2, 300 for
        search-ptb).
      space: of the search network: darts, s1, s2, s3, s4 or a JSON file, as for `python -m jdarts.search` (default: that of the
        search whose run folder is given, else darts with as many nodes as the cells have).
      latency: also measure on this device, for one image: each operation of the cells where it stands, unless the user's cache
        already has it, and the whole network.
      plugin: Python file, or importable module, that registers operations of the cells.
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
    space: Annotated[str | None, tyro.conf.arg(metavar="SPACE", help_behavior_hint="")] = None
    latency: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")] = False
    plugin: PluginOption = ()

    def given(self, names: tuple[str, ...]) -> dict[str, int]:
        """The values of those options that are set."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def main() -> None:
    """Parses the command line and prints the description."""
    config = tyro.cli(DescribeConfig, prog=program_name("jdarts.describe"))
    load_plugins(config.plugin)
    if config.latency and config.network is not None and config.network not in get_args(Stem):
        raise _no_latency(config.network)
    if config.draw is not None:
        check_suffix(config.draw)
    description = _described(config)
    latency = _latency(description) if config.latency else None
    if config.draw is not None:
        draw_genotype(description.genotype, config.draw)
    if config.json:
        measured = {} if latency is None else {"latency": latency.to_json()}
        print(json.dumps(description.to_json() | measured, indent=1))
    else:
        print(description.to_text() if latency is None else f"{description.to_text()}\n\n{latency.to_text()}")


def _latency(description: Description | RecurrentDescription) -> LatencyDescription:
    if isinstance(description, RecurrentDescription):
        raise _no_latency(description.network)
    return describe_latency(description)


def _no_latency(network: str) -> InputError:
    return InputError(
        f"--latency is for networks of convolutional cells that are trained, and this is the {network} network; give --network "
        f"{' or '.join(get_args(Stem))}, or leave it out"
    )


def _described(config: DescribeConfig) -> Description | RecurrentDescription:
    genotype = _genotype(config)
    recurrent = isinstance(genotype, RecurrentGenotype)
    sizes, searched = (recurrent and language_sizes(config.genotype)) or ({}, False)
    default = ("search-ptb" if searched else "ptb") if recurrent else "cifar"
    network = config.network or default
    for name in config.given(_OF_IMAGES if recurrent else _OF_TEXT):
        raise InputError(
            f"{option(name)} is for networks of {_CELLS[not recurrent]} cells, the {network} network is one of "
            f"{_CELLS[recurrent]} cells; leave {option(name)} out"
        )
    if isinstance(genotype, RecurrentGenotype):
        # Another network than that of the run is the paper's.
        known = sizes if network == default else {}
        return describe_recurrent(genotype, cast(RecurrentKind, network), **{**known, **config.given(_OF_TEXT)})
    if network not in SEARCH_STEMS:
        if config.space is not None:
            raise InputError(
                f"--space is for the search network, and this is the {network} network; give --network search"
            )
        return describe(genotype, cast(Kind, network), space=None, **config.given(_OF_IMAGES))
    record = search_record(config.genotype) or {}
    space = None if config.space is None else find_space(config.space)
    if record and space is None:
        searched_space = space_of(record)
        space = searched_space if isinstance(searched_space, SearchSpace) else None
    if record.get("network") == "imagenet":
        network = "search-imagenet"
    return describe(genotype, cast(Kind, network), space=space, **config.given(_OF_IMAGES))


def _genotype(config: DescribeConfig) -> AnyGenotype:
    """The genotype, of the kind that the network needs."""
    if config.network is None:
        return find_any_genotype(config.genotype)
    wants_recurrent = config.network in get_args(RecurrentKind)
    published = zoo.RECURRENT_CELLS if wants_recurrent else zoo.CELLS
    genotype = published.get(config.genotype) or find_any_genotype(config.genotype)
    is_recurrent = isinstance(genotype, RecurrentGenotype)
    if is_recurrent != wants_recurrent:
        *others, last = get_args(RecurrentKind if is_recurrent else Kind)
        raise InputError(
            f"the genotype is {'a recurrent cell' if is_recurrent else 'a pair of convolutional cells'}, the "
            f"{config.network} network is one of {_CELLS[wants_recurrent]} cells; give --network {', '.join(others)} or "
            f"{last}, or leave it out"
        )
    return genotype
