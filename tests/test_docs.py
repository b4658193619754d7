"""The pages of the site: what can be checked without building it. `make docs` builds it and runs its code."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import jdarts

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *(path for path in (ROOT / "docs").rglob("*.md") if path.stem not in ("commands", "benchmarks", "changelog")),
]


@pytest.fixture(scope="module")
def checks():
    spec = importlib.util.spec_from_file_location("check_blocks", ROOT / "docs" / "tools" / "check_blocks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    module.options_of.cache_clear()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_command_lines_have_subcommands_and_options_that_exist(checks, page, monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    assert list(checks.wrong_commands(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_are_files(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    # `make docs` writes the page of all commands.
    places = [link for link in links if "://" not in link and link != "reference/commands.md"]
    assert [link for link in places if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("```sh\njdarts serch\n```", "there is no such subcommand"),
        ("```sh\njdarts doctor --jsn\n```", "there is no option --jsn"),
        ("```sh\njdarts pipeline --searches 0-3\n```", "Error parsing --searches"),
        ("```sh\njdarts search --hypergradient exakt\n```", "--hypergradient"),
        ("```sh\npython -m jdarts.data inspect PATH --seed 3\n```", "there is no option --seed"),
        ("```bash\nls\n```", "the language 'bash'"),
        ("```\nls\n```", "the language ''"),
    ],
)
def test_a_wrong_command_line_is_found(checks, text, words, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    page = tmp_path / "page.md"
    page.write_text(text + "\n")
    (wrong,) = checks.wrong_commands(page)
    assert words in wrong


def test_blocks_of_python_run(checks, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\na = 1\n```\ntext\n```python\n# not run: no file\nopen('none')\n```\n```python\nassert a == 1\n```\n"
    )
    assert checks.main([str(page)]) == 0
    page.write_text("```python\nassert 1 == 2, 'never'\n```\n")
    assert checks.main([str(page)]) == 1
    assert "its Python fails: AssertionError: never" in capsys.readouterr().err


def test_every_public_name_has_a_place_in_the_reference():
    text = "\n".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md"))
    shown = set(re.findall(r"auto(?:function|class|module):: (?:\w+\.)*(\w+)", text))
    assert set(jdarts.__all__) - shown - {"HypergradientFn", "LossFn", "zoo"} == set()
