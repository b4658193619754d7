"""Commands in tests, called as a person calls them but in this process."""

import sys

import pytest

from jdarts.command import run_command


def fixture(main, name):
    """A fixture that runs a command: arguments to exit code, standard output and standard error."""

    @pytest.fixture
    def command(monkeypatch, capsys):
        def run(*arguments):
            monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                run_command(main)
            return ended.value.code, *capsys.readouterr()

        return run

    return command
