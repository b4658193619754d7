"""The command `jdarts`: each of its subcommands is a module that `python -m` runs as well."""

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jdarts.command import run_command
from jdarts.errors import InputError, shown


class Subcommand(NamedTuple):
    """A subcommand.

    Attributes:
      name: the words after `jdarts`.
      module: the module that has its function `main`.
      summary: what it does, for the list.
    """

    name: str
    module: str
    summary: str


SUBCOMMANDS = (
    Subcommand("search", "jdarts.search.command", "search a cell on images"),
    Subcommand("train", "jdarts.train.command", "train a network of found or published cells"),
    Subcommand("pipeline", "jdarts.pipeline.command", "searches, selection, full trainings and baselines in one table"),
    Subcommand("language search", "jdarts.language.search.command", "search a recurrent cell on text"),
    Subcommand("language train", "jdarts.language.train.command", "train a language model of a recurrent cell"),
    Subcommand("derive", "jdarts.derive", "the discrete cell of a search, finished or running"),
    Subcommand("describe", "jdarts.describe.command", "sizes and drawings of a cell's networks"),
    Subcommand("export", "jdarts.export", "a trained network as one file for other programs"),
    Subcommand("predict", "jdarts.predict", "the classes that a trained network sees in picture files"),
    Subcommand("report", "jdarts.report.html.command", "a page of a run, or of several runs side by side"),
    Subcommand("data", "jdarts.data.__main__", "prepare and list image sets and texts"),
    Subcommand("bench", "jdarts.bench", "measure the steps of a search; in a checkout alone"),
    Subcommand(
        "doctor", "jdarts.doctor.command", "what is installed, which devices there are, and what a first step costs"
    ),
)


def main() -> int | None:
    """Runs the subcommand that the command line names."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["--version"]:
        print(f"jdarts {importlib.import_module('jdarts').__version__}")
        return 0
    if arguments[:1] == ["--completion"]:
        importlib.import_module("jdarts.completion").print_completion(" ".join(arguments[1:]))
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    chosen = _chosen(arguments)
    words = len(chosen.name.split())
    sys.argv = [f"jdarts {chosen.name}", *arguments[words:]]
    run: Callable[[], int | None] = importlib.import_module(chosen.module).main
    return run()


def usage() -> str:
    """The help text: one line for each subcommand."""
    width = max(len(each.name) for each in SUBCOMMANDS)
    lines = [f"  jdarts {each.name:{width}}  {each.summary}" for each in SUBCOMMANDS]
    return "\n".join(
        [
            "usage: jdarts SUBCOMMAND [OPTIONS]",
            "",
            "Differentiable architecture search: a cell is searched by gradient descent, derived, trained and exported.",
            "",
            *lines,
            "",
            "jdarts SUBCOMMAND --help shows the options of one; jdarts --version the version; jdarts --completion bash",
            "(or zsh, fish) the script that completes subcommands and options.",
        ]
    )


def _chosen(arguments: Sequence[str]) -> Subcommand:
    for each in SUBCOMMANDS:
        words = each.name.split()
        if list(arguments[: len(words)]) == words:
            return each
    known = ", ".join(each.name for each in SUBCOMMANDS)
    raise InputError(f"there is no subcommand {shown(arguments[0])}; give one of {known}")


def start() -> None:
    """The entry point of the installed program."""
    run_command(main)
