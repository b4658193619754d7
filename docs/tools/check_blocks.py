"""Runs every block of Python in the pages, and checks every command line in them: `python docs/tools/check_blocks.py PAGES`.

The blocks of a page run one after another in one process, in an empty folder. A block whose first line is `# not run: REASON` is
left out. In blocks of `sh`, lines that begin with `jdarts` or `python -m jdarts` must have a subcommand and options that exist,
and values that parse.
"""

import contextlib
import functools
import importlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro

from jdarts.completion import forms
from jdarts.subcommands import SUBCOMMANDS

_BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```$", flags=re.M | re.S)
#: Languages whose blocks are neither run nor checked.
_SHOWN = {"text", "json", "bibtex"}


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each block of a page."""
    yield from _BLOCK.findall(page.read_text())


def python_of(page: Path) -> str:
    """The program of all blocks of a page that run."""
    texts = [text for language, text in blocks(page) if language == "python"]
    return "\n".join(text for text in texts if not text.startswith("# not run: "))


def wrong_commands(page: Path) -> Iterator[str]:
    """What is wrong with the command lines and languages of a page."""
    for language, text in blocks(page):
        if language == "sh":
            for line in text.splitlines():
                yield from _wrong_in(line)
        elif language not in ("python", *_SHOWN) and not language.startswith("{"):
            yield f"a block has the language {language!r}; give python, sh, {', '.join(sorted(_SHOWN))}"


def _wrong_in(line: str) -> Iterator[str]:
    words = shlex.split(line.split(" #")[0])
    if words[:2] == ["python", "-m"]:
        words = [*words[2].split("."), *words[3:]]
    if words[:1] != ["jdarts"] or words[1:2] in (["--version"], ["--completion"]):
        return
    for each in SUBCOMMANDS:
        parts = each.name.split()
        if words[1 : 1 + len(parts)] == parts:
            known = options_of(each.module, each.name, tuple(words[1 + len(parts) : 2 + len(parts)]))
            given = [word.split("=")[0] for word in words if word.startswith("--")]
            unknown = [option for option in given if option not in known]
            yield from (f"{line!r}: there is no option {option}" for option in unknown)
            if not unknown and (error := parse_error(each.name, words[1 + len(parts) :])):
                yield f"{line!r}: {error}"
            return
    yield f"{line!r}: there is no such subcommand"


@functools.cache
def options_of(module: str, name: str, first: tuple[str, ...]) -> set[str]:
    """The options in the help text of a subcommand; `first` is the next word, since `data` has subcommands itself."""
    nested = [word for word in first if name == "data" and not word.startswith("-")]
    sys.argv, output = [f"jdarts {name}", *nested, "--help"], io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        importlib.import_module(module).main()
    return set(re.findall(r"--[a-z][a-z0-9-]*(?:\.[a-z][a-z0-9-]*)*", output.getvalue()))


def parse_error(name: str, arguments: list[str]) -> str:
    """What tyro says of the arguments of a subcommand; empty if it parses them. `data` is not parsed, since that would run it."""
    form: Any = all_forms()
    for word in name.split():
        form = form[word]
    if not isinstance(form, type):
        return ""
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            tyro.cli(form, prog=name, args=arguments)
    except SystemExit as ended:
        words = re.sub(r"[─│╭╮╰╯]|-{3,}", " ", output.getvalue()).split()
        return " ".join(words) if ended.code else ""
    return ""


@functools.cache
def all_forms() -> dict[str, Any]:
    """What each subcommand parses."""
    return forms()


def main(pages: list[str]) -> int:
    """Checks the pages.

    Returns:
      The exit code: 1 if something is wrong.
    """
    failed = False
    for page in map(Path, pages):
        wrong = list(wrong_commands(page))
        if program := python_of(page):
            with tempfile.TemporaryDirectory() as folder:
                environment = os.environ | {"MPLBACKEND": "agg"}
                done = subprocess.run(
                    [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True
                )
            if done.returncode:
                wrong.append(f"its Python fails: {done.stderr.strip().splitlines()[-1]}")
        for each in wrong:
            print(f"{page}: {each}", file=sys.stderr)
        failed |= bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
