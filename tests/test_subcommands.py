"""The command `jdarts`."""

import importlib
from pathlib import Path

import pytest

import jdarts
from jdarts import bench, subcommands
from jdarts.errors import InputError


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["jdarts", *arguments])
        code = subcommands.main()
        return code, capsys.readouterr().out

    return run


def test_without_a_subcommand_it_lists_them(run):
    code, out = run()
    assert code == 0
    assert run("--help") == (0, out)
    for each in subcommands.SUBCOMMANDS:
        assert f"  jdarts {each.name} " in out and each.summary in out


def test_its_version(run):
    assert run("--version") == (0, f"jdarts {jdarts.__version__}\n")


@pytest.mark.parametrize("each", subcommands.SUBCOMMANDS, ids=lambda each: each.name)
def test_a_subcommand_gets_its_arguments_and_its_name(each, run, monkeypatch):
    seen = []

    def main():
        import sys

        seen.append(list(sys.argv))
        return 7

    monkeypatch.setattr(importlib.import_module(each.module), "main", main)
    assert run(*each.name.split(), "--epochs", "3")[0] == 7
    assert seen == [[f"jdarts {each.name}", "--epochs", "3"]]


@pytest.mark.parametrize("name", ["describe", "derive", "search"])
def test_the_help_of_a_subcommand_names_it(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["jdarts", name, "--help"])
    with pytest.raises(SystemExit) as ended:
        subcommands.main()
    assert ended.value.code == 0
    assert f"usage: jdarts {name} " in capsys.readouterr().out


def test_the_benchmark_is_that_of_the_checkout(run, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run("bench", "--help")
    assert ended.value.code == 0
    assert "usage: jdarts bench " in capsys.readouterr().out
    monkeypatch.setattr(bench, "_FOLDER", Path("/nowhere/benchmarks"))
    with pytest.raises(
        InputError, match="the benchmarks are in a checkout of jdarts, and /nowhere/benchmarks is not there"
    ):
        run("bench")


@pytest.mark.parametrize("wrong", ["serch", "language", "--epochs"])
def test_an_unknown_subcommand_is_refused(wrong, run):
    with pytest.raises(InputError, match=f"there is no subcommand '{wrong}'; give one of search, train,"):
        run(wrong)
