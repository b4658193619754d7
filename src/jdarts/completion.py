"""Completion of the command `jdarts` in a shell: its subcommands, their options, and the options' values."""

import contextlib
import dataclasses
from typing import Annotated, Any, NoReturn, Union

import tyro

from jdarts.errors import InputError

#: Shells that tyro writes completions for.
SHELLS = ("bash", "zsh", "fish")


def print_completion(shell: str) -> NoReturn:
    """Prints the script of a shell, and ends the program.

    Args:
      shell: its name.

    Raises:
      InputError: another shell.
    """
    if shell not in SHELLS:
        raise InputError(f"--completion is {shell!r}; give one of {', '.join(SHELLS)}")
    tyro.cli(
        _one_of(forms()),
        prog="jdarts",
        config=(tyro.conf.OmitSubcommandPrefixes,),
        args=("--tyro-write-completion", shell, "-"),
    )
    raise AssertionError("tyro ends the program")


def forms() -> dict[str, Any]:
    """What each subcommand parses: a dataclass or a function; of several words, those of the next word."""
    # Imported here: together they take seconds.
    from jdarts import bench
    from jdarts.data import __main__ as data
    from jdarts.derive import DeriveConfig
    from jdarts.describe.command import DescribeConfig
    from jdarts.doctor.command import DoctorConfig
    from jdarts.export import ExportConfig
    from jdarts.language.search import LanguageSearchConfig
    from jdarts.language.train import LanguageTrainConfig
    from jdarts.pipeline import PipelineConfig
    from jdarts.predict import PredictConfig
    from jdarts.report.html.command import ReportConfig
    from jdarts.runs.option_groups import form_of
    from jdarts.search import SearchConfig
    from jdarts.train import TrainConfig

    found: dict[str, Any] = {
        "search": form_of(SearchConfig()),
        "train": form_of(TrainConfig()),
        "pipeline": form_of(PipelineConfig()),
        "language": {"search": form_of(LanguageSearchConfig()), "train": form_of(LanguageTrainConfig())},
        "derive": DeriveConfig,
        "describe": DescribeConfig,
        "export": ExportConfig,
        "predict": PredictConfig,
        "report": ReportConfig,
        "data": {"prepare": data.prepare_set, "list": data.list_sets, "inspect": data.inspect_set},
        "doctor": DoctorConfig,
    }
    # An installed package has no benchmarks.
    with contextlib.suppress(InputError):
        found["bench"] = bench.benchmark().BenchmarkConfig
    return found


def _one_of(commands: dict[str, Any]) -> Any:
    """The type that tyro parses as a choice of subcommands."""
    made: list[Any] = []
    for name, form in commands.items():
        if isinstance(form, dict):
            form = dataclasses.make_dataclass(name, [("command", tyro.conf.OmitArgPrefixes[_one_of(form)])])
            made.append(Annotated[form, tyro.conf.subcommand(name)])
        else:
            made.append(Annotated[Any, tyro.conf.subcommand(name, constructor=form)])
    return Union[tuple(made)]  # noqa: UP007  (built at run time)
