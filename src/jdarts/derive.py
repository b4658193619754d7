"""`python -m jdarts.derive CHECKPOINT`: the discrete cell of a finished or a running search."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from jdarts import checkpoint
from jdarts.command import run_command
from jdarts.derivation import derive_genotype
from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.report import draw_genotype
from jdarts.space import SearchSpace


@dataclasses.dataclass(frozen=True)
class DeriveConfig:
    """Prints the genotype that a search, finished or running, has found so far, and draws it.

    Attributes:
      checkpoint: a run's folder, whose newest whole checkpoint is taken, or one checkpoint in it.
      json: print JSON instead of the text form.
      draw: also draw both cells into this file (.svg, .png or .pdf).
      edges_per_node: edges to keep for each node (default: what the search was told).
    """

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT", help_behavior_hint="")]
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")] = False
    draw: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    edges_per_node: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None


def genotype_of(record: Any, *, edges_per_node: int | None = None) -> Genotype:
    """The genotype of a checkpoint's record.

    Args:
      record: `Checkpoint.record` of a search.
      edges_per_node: edges to keep for each node; what the search was told where it is not given.

    Raises:
      InputError: the record is not that of a search.
    """
    try:
        space, alphas = SearchSpace(**record["space"]), record["alphas"]
        count = record["edges_per_node"] if edges_per_node is None else edges_per_node
    except (KeyError, TypeError) as error:
        raise InputError(f"the checkpoint is not that of a search for cells ({error} is missing)") from None
    return derive_genotype(alphas, space, edges_per_node=count)


def main() -> None:
    """Parses the command line and prints the genotype."""
    config = tyro.cli(DeriveConfig, prog="python -m jdarts.derive")
    skipped: list[str] = []
    found = checkpoint.find(config.checkpoint, skipped)
    for message in skipped:
        print(f"skipped: {message}", file=sys.stderr)
    genotype = genotype_of(found.record, edges_per_node=config.edges_per_node)
    if config.draw is not None:
        draw_genotype(genotype, config.draw, title=f"step {found.step:,}")
    print(genotype.to_json() if config.json else genotype)


if __name__ == "__main__":
    run_command(main)
