"""How to start a run again: the command with every setting that decides its result."""

import shlex
from collections.abc import Mapping
from typing import Any

from jdarts.report.html.run_data import RunData
from jdarts.runs.bounds import option

#: Settings that a run writes itself, which no option sets.
_NO_OPTIONS = ("stage", "edge_operations")
#: Settings that are true, false or left to the data.
_THREE_WAYS = ("flip",)
_COMMANDS = {
    ("search", False): "search",
    ("search", True): "language search",
    ("training", False): "train",
    ("training", True): "language train",
    ("pipeline", False): "pipeline",
}


def command(run: RunData) -> str:
    """The command that starts the run again, in another folder."""
    words = ["jdarts", *_COMMANDS[run.kind, run.is_text].split()]
    settings = dict(run.settings)
    if run.stage is not None and run.total_epochs is not None:
        # A stage records its own epochs, and the option sets those of all stages.
        settings["epochs"] = run.total_epochs * run.stage[1]
    # The options after a method overrule it.
    first = {name: settings.pop(name) for name in ("method", "search.method") if name in settings}
    for name, value in (first | settings).items():
        words += _option_words(name, value)
    return shlex.join([*words, "--run-dir", f"runs/{run.name}-again"])


def settings_rows(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of the settings."""
    return [(name, _value_text(value)) for name, value in settings.items()]


def _option_words(name: str, value: Any) -> list[str]:
    plain = name.rpartition(".")[2]
    if value is None or value == [] or plain in _NO_OPTIONS:
        return []
    if isinstance(value, str) and value.startswith("sha256:"):
        return [option(name), f"{plain.upper()}.json"]
    if isinstance(value, bool) and plain in _THREE_WAYS:
        return [option(name), str(value)]
    if isinstance(value, bool):
        return [option(name) if value else _off(name)]
    if plain == "plugin" and isinstance(value, list):
        # A run records the checksum of each plug-in after its name.
        return [word for each in value for word in (option(name), str(each).partition(" sha256:")[0])]
    if isinstance(value, list):
        return [option(name), *map(str, value)]
    return [option(name), str(value)]


def _off(name: str) -> str:
    part, dot, plain = name.rpartition(".")
    return option(f"{part}{dot}no_{plain}")


def _value_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value_text, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value_text(each)}" for name, each in value.items())
    return "–" if value is None else str(value)
