"""What `make test-fast` leaves out is there, and what it leaves covers every room of the source."""

import ast
import functools

import pytest
from slow_tests import SECONDS, SLOW, TESTS, functions, is_slow

SOURCE = TESTS.parent / "src" / "jdarts"
ROOMS = sorted(
    ".".join(path.relative_to(SOURCE).parts) for path in SOURCE.rglob("*") if (path / "__init__.py").is_file()
)
FILES = sorted(path for path in TESTS.glob("test_*.py"))


@pytest.mark.parametrize("file", SLOW)
def test_what_is_listed_is_there(file):
    assert (TESTS / file).is_file()
    assert set(SLOW[file]) <= set(functions(TESTS / file))


def test_weights_are_of_files_that_are_there():
    assert [file for file in SECONDS if not (TESTS / file).is_file()] == []


@functools.cache
def imported(path):
    """The modules of jdarts that a test file imports, and what it takes from them, as dotted names without `jdarts`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.removeprefix("jdarts.") for name in names if name.startswith("jdarts.")}


FAST = [path for path in FILES if not all(is_slow(path.name, name) for name in functions(path))]


@pytest.mark.parametrize("room", ROOMS)
def test_fast_tests_use_every_room(room):
    assert any(name == room or name.startswith(f"{room}.") for path in FAST for name in imported(path))
