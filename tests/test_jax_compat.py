"""Names of JAX without a promise of compatibility: one file imports them for jdarts, one for the tests, and all are needed."""

import ast
import functools
from pathlib import Path

import pytest

import jdarts.xla.jax_compat as compat

ROOT = Path(__file__).parents[1]
ONE = ROOT / "src/jdarts/xla/jax_compat.py"
OF_TESTS = ROOT / "tests/shared_lowering.py"
FILES = sorted(
    path for folder in ("src", "tests", "benchmarks", "experiments") for path in (ROOT / folder).rglob("*.py")
)

#: What JAX's compatibility policy leaves out.
UNCOVERED = ("_src", "core", "example_libraries", "experimental", "extend", "interpreters", "lib")


def names_of_jax(source):
    """Every dotted name of JAX that a file imports or reaches by attributes, also those of what a call or an index gives."""
    for node in nodes_of(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield dotted(node)


@functools.cache
def nodes_of(source):
    return list(ast.walk(ast.parse(source)))


def dotted(node):
    """The names by which an expression is reached, `a.b` of `a(x)[0].b`."""
    match node:
        case ast.Attribute():
            return f"{dotted(node.value)}.{node.attr}"
        case ast.Call():
            return dotted(node.func)
        case ast.Subscript():
            return dotted(node.value)
        case ast.Name():
            return node.id
    return ""


def uncovered(source):
    found = []
    for name in names_of_jax(source):
        root, *rest = name.split(".")
        private = root == "jax" and rest and (rest[0] in UNCOVERED or any(part.startswith("_") for part in rest))
        if private and "__version__" not in rest:
            found.append(name)
        if root == "jaxlib":
            found.append(name)
    return found


@pytest.mark.parametrize(
    "source",
    [
        "from jax._src import api",
        "import jax.interpreters.ad",
        "from jax.extend import core",
        "from jax import core",
        "isinstance(x, jax.core.Tracer)",
        "jax.experimental.multihost_utils.process_allgather(x)",
        "from jaxlib import xla_client",
        "jax.jit(f)(x).devices()[0]._private",
        "def f():\n    from jax.experimental import multihost_utils",
    ],
)
def test_what_the_policy_leaves_out_is_found(source):
    assert uncovered(source)


@pytest.mark.parametrize("source", ["import jax.numpy as jnp", "jax.ffi.ffi_call(x)", "core.Tracer", "jax.__version__"])
def test_what_it_covers_is_not(source):
    assert not uncovered(source)


def test_one_file_imports_them_and_one_of_the_tests():
    importing = {path: names for path in FILES if (names := uncovered(path.read_text()))}
    assert set(importing) == {ONE, OF_TESTS}, importing


def test_all_of_them_are_needed():
    used = {
        alias.name
        for path in FILES
        if path != ONE
        for node in nodes_of(path.read_text())
        if isinstance(node, ast.ImportFrom) and node.module == "jdarts.xla.jax_compat"
        for alias in node.names
    }
    assert used == set(compat.__all__)
