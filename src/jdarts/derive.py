"""`python -m jdarts.derive CHECKPOINT`: the discrete cell of a finished or a running search."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from jdarts import checkpoint
from jdarts.budget.flags import BoundFlags, NetworkFlags, budget_of
from jdarts.command import program_name, run_command
from jdarts.derivation import genotype_of as genotype_of
from jdarts.derivation import genotype_with_remark, space_of
from jdarts.errors import InputError
from jdarts.genotype import AnyGenotype, Genotype
from jdarts.plugins import PluginOption, load_plugins
from jdarts.report import draw_genotype
from jdarts.resolve import find_any_genotype, is_genotype, is_place
from jdarts.runs.bounds import option
from jdarts.space import CELL_KINDS, SearchSpace

#: Characters of an argument that a message shows.
_MAX_QUOTED = 80


@dataclasses.dataclass(frozen=True)
class DeriveConfig:
    """Prints the genotype of a search, finished or running, and draws it.

    Attributes:
      checkpoint: a search: its run folder, for the newest complete checkpoint, or one checkpoint in it; or a genotype: its
        text, its name or a file that holds it.
      json: print JSON instead of the text form.
      draw: also draw the cells into this file (.svg, .png or .pdf).
      edges_per_node: edges to keep for each node (default: the number that the search has set; recurrent cells keep 1).
      select: the rule that chooses edges and operations: argmax, skip_limit, threshold, threshold_edge, pairs, all_edges, or
        perturbation for a search that had it; some take a value, as in skip_limit:3 or threshold:0.9 (default: the rule of the
        search).
      plugin: Python file, or importable module, that registers operations of the cells.
      bounds: bounds on the network to be trained.
      network: the network to be trained.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT", help_behavior_hint="")]
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")] = False
    draw: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    edges_per_node: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    select: Annotated[str | None, tyro.conf.arg(metavar="RULE", help_behavior_hint="")] = None
    plugin: PluginOption = ()
    bounds: tyro.conf.OmitArgPrefixes[BoundFlags] = BoundFlags()  # noqa: RUF009  (frozen)
    network: tyro.conf.OmitArgPrefixes[NetworkFlags] = NetworkFlags()  # noqa: RUF009  (frozen)


def main() -> None:
    """Parses the command line and prints the genotype."""
    config = tyro.cli(DeriveConfig, prog=program_name("jdarts.derive"))
    load_plugins(config.plugin)
    genotype, title = _derived(config)
    if config.draw is not None:
        draw_genotype(genotype, config.draw, title=title)
    print(genotype.to_json() if config.json else genotype)


def _derived(config: DeriveConfig) -> tuple[AnyGenotype, str | None]:
    """The genotype, and the title of its drawing."""
    if is_genotype(str(config.checkpoint)):
        given = {"edges_per_node": config.edges_per_node, "select": config.select}
        for name, value in (given | vars(config.bounds) | vars(config.network)).items():
            if value is not None:
                raise InputError(
                    f"{option(name)} is for checkpoints of searches; a genotype has its edges, leave it out"
                )
        return find_any_genotype(str(config.checkpoint)), None
    skipped: list[str] = []
    if len(str(config.checkpoint)) > _MAX_QUOTED and not is_place(str(config.checkpoint)):
        raise InputError(
            f"{str(config.checkpoint)[:_MAX_QUOTED]!r}… is no run's folder, checkpoint or genotype; give one"
        )
    try:
        search = checkpoint.find(config.checkpoint, skipped)
    except OSError as error:
        shown = str(config.checkpoint)[:_MAX_QUOTED]
        raise InputError(
            f"{shown!r} is no run's folder, checkpoint or genotype ({error.strerror or error}); give one"
        ) from None
    for message in skipped:
        print(f"skipped: {message}", file=sys.stderr)
    if _cells_of(search.record) in (1, 2) and _has_both_kinds(search.record):
        print(
            "warning: this search had no normal cell, since its network had only 1 or 2 cells; the normal cell below is "
            "random: search with --cells 3 or more",
            file=sys.stderr,
        )
    return _within_budget(config, search.record), f"step {search.step:,}"


def _within_budget(config: DeriveConfig, record: Any) -> AnyGenotype:
    """The genotype of a record; how it stands against bounds is shown beside it."""
    rules: Any = {"edges_per_node": config.edges_per_node, "select": config.select}
    space = space_of(record)
    if not isinstance(space, SearchSpace):
        for name, value in (vars(config.bounds) | vars(config.network)).items():
            if value is not None:
                raise InputError(
                    f"{option(name)} is {value}, and the size of a recurrent cell's network does not depend on what is derived: "
                    "all activations have the same weights; leave it out"
                )
        return genotype_of(record, **rules)
    found = budget_of(config.bounds, config.network, record, space)
    if found is None:
        genotype, remark = genotype_with_remark(record, **rules, limits=())
        if remark:
            print(f"warning: {remark}", file=sys.stderr)
        return genotype
    genotype = genotype_of(record, **rules, limits=found.limits)
    assert isinstance(genotype, Genotype)
    free = genotype_of(record, **rules, limits=())
    for line in found.words(genotype, space, free if isinstance(free, Genotype) else None):
        print(line, file=sys.stderr)
    return genotype


def _cells_of(record: Any) -> Any:
    """Number of cells of the network in a record; None if it has none."""
    config = record.get("config") if isinstance(record, dict) else None
    return config.get("cells") if isinstance(config, dict) else None


def _has_both_kinds(record: Any) -> bool:
    """Whether the space of a search has a normal and a reduction cell."""
    space = record.get("space")
    return isinstance(space, dict) and all(space.get(kind) for kind in CELL_KINDS)


if __name__ == "__main__":
    run_command(main)
