"""The options of every command: names, values to choose from and defaults are those of `command_options.txt`."""

import importlib
import re
from pathlib import Path

import pytest

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
    "jdarts.data prepare": "jdarts.data.__main__",
}


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


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_its_options(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setattr("sys.argv", [*command.split(), "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(COMMANDS[command]).main()
    assert ended.value.code == 0
    assert options_in(capsys.readouterr().out) == kept_options()[command]
