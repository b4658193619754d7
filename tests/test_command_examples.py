"""The examples at the end of the help of every command."""

import sys
import types

import pytest
from test_docs import checks

from jdarts import command_examples
from jdarts.command import run_command
from jdarts.command_examples import EXAMPLES, help_examples
from jdarts.subcommands import SUBCOMMANDS, main

__all__ = ["checks"]


@pytest.mark.parametrize("each", SUBCOMMANDS, ids=lambda each: each.name)
def test_every_command_has_examples_with_options_that_exist(each, checks, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [f"jdarts {each.name}"])
    lines = help_examples().split("\n")
    assert lines[0] == "examples:" and len(lines) > 2
    assert all(line.startswith(f"  jdarts {each.name}") and "  # " in line for line in lines[1:])
    page = tmp_path / "page.md"
    page.write_text("\n".join(["```sh", *(line.strip() for line in lines[1:]), "```", ""]))
    assert list(checks.wrong_commands(page)) == []


def test_every_example_is_of_a_command():
    names = [each.name for each in SUBCOMMANDS]
    assert [name for name in EXAMPLES if name not in names and name.split()[0] not in names] == []


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_a_help_ends_with_the_examples_and_code_0(option, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jdarts", "derive", option])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 0
    before, _, after = capsys.readouterr().out.partition("\nexamples:\n")
    assert "usage: jdarts derive" in before
    assert after.startswith("  jdarts derive runs/") and len(after.splitlines()) == len(EXAMPLES["derive"])


def test_a_wrong_option_shows_no_examples(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jdarts", "derive", "--helpp"])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 2
    assert "examples:" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("module", "words", "shown"),
    [
        ("jdarts.derive", [], "  python -m jdarts.derive runs/"),
        ("jdarts.language.search.__main__", [], "  python -m jdarts.language.search --dataset"),
        ("jdarts.data.__main__", ["list", "--help"], "  python -m jdarts.data list  # all sets"),
    ],
)
def test_a_module_has_the_examples_of_its_command(module, words, shown, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere.py", *words])
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(__spec__=types.SimpleNamespace(name=module)))
    assert help_examples().split("\n")[1].startswith(shown)


def test_a_script_has_no_examples(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experiments/search_digits.py", "--help"])
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(__spec__=None))
    assert command_examples.help_examples() == ""
