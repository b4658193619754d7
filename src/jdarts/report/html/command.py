"""`jdarts report RUN [RUN ...]`: the page of a run, or of several runs side by side."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from jdarts.command import program_name
from jdarts.errors import InputError
from jdarts.report.html.pages import report


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Writes a page of a run, or one that puts several runs side by side: an HTML file that needs no network.

    Attributes:
      runs: folders of runs, or folders that hold runs, such as those of --seeds and of a pipeline.
      output: the file (default: report.html in the folder of a single run, comparison.html here for several).
    """

    runs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="")
    ]
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None


def main() -> None:
    """Parses the command line and writes the page."""
    config = tyro.cli(ReportConfig, prog=program_name("jdarts.report"))
    if not config.runs:
        raise InputError("no run is given; give the folder of one or more, such as runs/search-digits-exact-seed0")
    print(report(config.runs, config.output))
