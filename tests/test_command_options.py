"""The options of every command: names, values to choose from and defaults are those of `command_options.txt`."""

import importlib
import re
from pathlib import Path

import pytest

from jdarts.language.search import LanguageSearchConfig
from jdarts.language.train import LanguageTrainConfig
from jdarts.pipeline import PipelineConfig
from jdarts.runs.option_groups import GROUPS, parse
from jdarts.runs.settings import entries
from jdarts.search import SearchConfig
from jdarts.train import TrainConfig

KEPT = Path(__file__).parent / "command_options.txt"
#: Commands, with the modules of their functions `main`.
COMMANDS = {
    "jdarts.search": "jdarts.search.command",
    "jdarts.train": "jdarts.train.command",
    "jdarts.pipeline": "jdarts.pipeline.command",
    "jdarts.language.search": "jdarts.language.search.command",
    "jdarts.language.train": "jdarts.language.train.command",
    "jdarts.derive": "jdarts.derive",
    "jdarts.describe": "jdarts.describe.command",
    "jdarts.export": "jdarts.export",
    "jdarts.report": "jdarts.report.html.command",
    "jdarts.predict": "jdarts.predict",
    "jdarts.data prepare": "jdarts.data.__main__",
    "jdarts.data inspect": "jdarts.data.__main__",
}

#: The commands of runs, with the start of their first option.
RUNS = {
    "jdarts.search": "--method",
    "jdarts.train": "--genotype",
    "jdarts.pipeline": "--searches",
    "jdarts.language.search": "--method",
    "jdarts.language.train": "--genotype",
}
CONFIGURATIONS = (SearchConfig, TrainConfig, PipelineConfig, LanguageSearchConfig, LanguageTrainConfig)


def options_in(text):
    """Lines such as `--epochs INT (default: 50)` of a help text, in the order of the alphabet."""
    lines = [line.strip("│ ") for line in text.split("\n")]
    found = []
    for part in re.split(r"\n(?=--?[a-z])", "\n".join(lines))[1:]:
        names = re.split(r" {2}|\n", part, maxsplit=1)[0]
        default = re.findall(r"\(default:\s[^()]*\)|\(required\)", part)
        found.append(" ".join([names, *(" ".join(each.split()) for each in default[-1:])]))
    return sorted(found)


def kept_options():
    sections = re.split(r"^\[(.*)\]\n", KEPT.read_text(), flags=re.M)[1:]
    return {name: lines.split("\n") for name, lines in zip(sections[::2], (each.strip() for each in sections[1::2]))}


def help_text(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setattr("sys.argv", [*command.split(), "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(COMMANDS[command]).main()
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_its_options(command, monkeypatch, capsys):
    assert options_in(help_text(command, monkeypatch, capsys)) == kept_options()[command]


@pytest.mark.parametrize("command", RUNS)
def test_the_options_of_a_run_are_in_groups_that_begin_with_what_it_runs(command, monkeypatch, capsys):
    text = help_text(command, monkeypatch, capsys)
    _, title, own, *groups = re.split(r"^[╭─ ]*((?:\w+: )?[a-z ]*options)[ ─╮]*$", text, flags=re.M)
    assert title == "options" and len(options_in(own)) == 1, "an option is in no row of option_groups.GROUPS"
    titles, first = groups[::2], re.search(r"^[│ ]*(--[a-z][a-z.-]*)", groups[1], flags=re.M)
    assert first is not None and first[1] == RUNS[command]
    known = [f"{group.title} options" for group in GROUPS]
    places = [known.index(title) for title in titles if ": " not in title]
    assert places == sorted(places)


def test_every_group_of_options_has_members_that_are_settings():
    known = {
        name for kind in CONFIGURATIONS for name in (*entries(kind), *(entry.part for entry in entries(kind).values()))
    }
    members = [member for group in GROUPS for member in group.members]
    assert set(members) <= known
    assert len(set(members)) == len(members)


def test_options_change_the_settings_of_the_command_and_of_the_configurations_in_it():
    words = [
        "--seed",
        "4",
        "--search.epochs",
        "3",
        "--search.edge-weights",
        "--train.no-auxiliary",
        "--train.channels",
        "8",
    ]
    changed = PipelineConfig(
        seed=4, search=SearchConfig(epochs=3, edge_weights=True), train=TrainConfig(auxiliary=False, channels=8)
    )
    assert parse(PipelineConfig(), prog="jdarts.pipeline", arguments=words) == changed


def test_the_help_of_a_method_shows_its_values(capsys):
    with pytest.raises(SystemExit):
        parse(SearchConfig(method="p_darts"), prog="jdarts.search", arguments=["--help"])
    shown = " ".join(options_in(capsys.readouterr().out))
    assert "--dropped-operations INT ... (default: 3 2)" in shown
    assert "--alpha-clip FLOAT (default: 5.0)" in shown
