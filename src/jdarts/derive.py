"""`python -m jdarts.derive CHECKPOINT`: the discrete cell of a finished or a running search."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from jdarts import checkpoint
from jdarts.command import run_command
from jdarts.derivation import derive_genotype, derive_recurrent_genotype
from jdarts.errors import InputError
from jdarts.genotype import AnyGenotype, parse_genotype
from jdarts.genotype_text import is_genotype_text
from jdarts.report import draw_genotype
from jdarts.space import CELL_KINDS, RecurrentSpace, SearchSpace


@dataclasses.dataclass(frozen=True)
class DeriveConfig:
    """Prints the genotype that a search, finished or running, has found so far, and draws it.

    Attributes:
      checkpoint: a run's folder, whose newest whole checkpoint is taken, or one checkpoint in it. The text of a genotype is
        taken as it is.
      json: print JSON instead of the text form.
      draw: also draw the cells into this file (.svg, .png or .pdf).
      edges_per_node: edges to keep for each node (default: what the search was told; recurrent cells keep 1).
    """

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT", help_behavior_hint="")]
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")] = False
    draw: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    edges_per_node: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None


def genotype_of(record: Any, *, edges_per_node: int | None = None) -> AnyGenotype:
    """The genotype of a checkpoint's record.

    Args:
      record: `Checkpoint.record` of a search: the fields of its space under `space`, the alphas under `alphas`, and
        for convolutional cells `edges_per_node`.
      edges_per_node: edges to keep for each node; what the search was told where it is not given.

    Raises:
      InputError: the record is not that of a search, or more than one edge for each node of a recurrent cell.
    """
    space = space_of(record)
    recurrent = isinstance(space, RecurrentSpace)
    alphas: Any = record.get("alphas")
    count: Any = 1 if recurrent else record.get("edges_per_node")
    has_alphas = recurrent or (isinstance(alphas, dict) and set(alphas) >= set(CELL_KINDS))
    if not has_alphas or type(count) is not int:
        raise InputError("the checkpoint is not that of a search for cells: its alphas or edges per node are missing")
    count = count if edges_per_node is None else edges_per_node
    if isinstance(space, SearchSpace):
        return derive_genotype(alphas, space, edges_per_node=count)
    if count != 1:
        raise InputError(f"{count} edges per node; nodes of a recurrent cell have 1, leave --edges-per-node out")
    return derive_recurrent_genotype(alphas, space)


def space_of(record: Any) -> SearchSpace | RecurrentSpace:
    """The space of the search of a checkpoint's record.

    Raises:
      InputError: the record is not that of a search.
    """
    fields = record.get("space") if isinstance(record, dict) else None
    if not isinstance(fields, dict):
        raise InputError("the checkpoint is not that of a search for cells (the space is missing)")
    try:
        return RecurrentSpace(**fields) if "recurrent" in fields else SearchSpace(**fields)
    except TypeError:
        raise InputError(
            "the checkpoint is not that of a search for cells (its space is no lists of operations)"
        ) from None


def main() -> None:
    """Parses the command line and prints the genotype."""
    config = tyro.cli(DeriveConfig, prog="python -m jdarts.derive")
    genotype, title = _derived(config)
    if config.draw is not None:
        draw_genotype(genotype, config.draw, title=title)
    print(genotype.to_json() if config.json else genotype)


def _derived(config: DeriveConfig) -> tuple[AnyGenotype, str | None]:
    """The genotype, and what a drawing of it is called."""
    if is_genotype_text(str(config.checkpoint)):
        if config.edges_per_node is not None:
            raise InputError("--edges-per-node is for checkpoints of searches; a genotype has its edges, leave it out")
        return parse_genotype(str(config.checkpoint)), None
    skipped: list[str] = []
    try:
        found = checkpoint.find(config.checkpoint, skipped)
    except OSError as error:
        shown = str(config.checkpoint)[:80]
        raise InputError(
            f"{shown!r} is no run's folder, checkpoint or genotype ({error.strerror or error}); give one"
        ) from None
    for message in skipped:
        print(f"skipped: {message}", file=sys.stderr)
    return genotype_of(found.record, edges_per_node=config.edges_per_node), f"step {found.step:,}"


if __name__ == "__main__":
    run_command(main)
