"""Completion of the command `jdarts` in a shell."""

import re
import shutil
import subprocess

import pytest
from test_command_options import COMMANDS, kept_options

from jdarts import subcommands
from jdarts.completion import SHELLS, print_completion
from jdarts.errors import InputError
from jdarts.subcommands import SUBCOMMANDS


@pytest.fixture(scope="module")
def script():
    """The script for bash, with a function that completes the words that it is given."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        written = []
        patch.setattr("sys.argv", ["jdarts", "--completion", "bash"])
        patch.setattr("builtins.print", lambda *texts, **_: written.extend(texts))
        subcommands.main()
    assert not ended.value.code
    return (
        "\n".join(written) + '\nCOMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _tyro_jdarts; printf "%s\\n" "${COMPREPLY[@]}"'
    )


@pytest.fixture(scope="module")
def complete(script, tmp_path_factory):
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    path = tmp_path_factory.mktemp("completion") / "complete.bash"
    path.write_text(script)

    def complete(*words):
        done = subprocess.run(["bash", str(path), "jdarts", *words], capture_output=True, text=True, check=True)
        return done.stdout.split()

    return complete


def test_subcommands_are_completed(complete):
    assert set(complete("")) - {"-h", "--help"} == {each.name.split()[0] for each in SUBCOMMANDS}
    assert complete("language", "s") == ["search"]
    assert complete("data", "ins") == ["inspect"]
    assert complete("bench", "--qui") == ["--quick"]


@pytest.mark.parametrize("command", ["jdarts.search", "jdarts.language.train", "jdarts.derive", "jdarts.data prepare"])
def test_every_option_of_a_subcommand_is_completed(command, complete):
    assert command in COMMANDS
    words = re.split(r"[. ]", command)[1:]
    known = set(re.findall(r"--[a-z][a-z0-9.-]*", " ".join(line.partition("(")[0] for line in kept_options()[command])))
    assert set(complete(*words, "--")) >= known - {"--help"}


def test_values_are_completed(complete):
    assert complete("search", "--hypergradient", "ex") == ["exact"]


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell != "bash"])
def test_other_shells_have_their_scripts(shell, capsys):
    with pytest.raises(SystemExit) as ended:
        print_completion(shell)
    assert not ended.value.code
    assert "jdarts" in capsys.readouterr().out


def test_an_unknown_shell_is_refused():
    with pytest.raises(InputError, match="--completion is 'ksh'; give one of bash, zsh, fish"):
        print_completion("ksh")
