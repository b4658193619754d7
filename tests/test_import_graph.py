"""Imports in the sources, those inside functions too: none goes in a circle, and none goes from the library to a command."""

import ast
from pathlib import Path

import jdarts

ROOT = Path(jdarts.__file__).parent
#: Modules that are commands, beside every `command` and `__main__`.
COMMANDS = (
    "jdarts.bench",
    "jdarts.completion",
    "jdarts.derive",
    "jdarts.export",
    "jdarts.predict",
    "jdarts.subcommands",
)


def module_of(path):
    parts = ("jdarts", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_command(module):
    return module in COMMANDS or module.rpartition(".")[2] in ("command", "__main__")


def imports():
    """Module to the modules of the package that its source imports, packages on the way to a module left out."""
    files = {module_of(path): path for path in ROOT.rglob("*.py")}
    graph = {}
    for module, path in files.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module} has a relative import"
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= {name if name in files else node.module for name in inner}
        graph[module] = {name for name in found if name in files} - {module}
    return graph


def circle_in(graph):
    """Modules that import each other in a circle; empty where there is none."""
    done = set()

    def visit(module, way):
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph[module]):
            if found := visit(other, [*way, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := visit(module, []))), [])


def test_no_import_goes_in_a_circle():
    assert not circle_in(imports())


def test_no_library_module_imports_a_command():
    arrows = [
        (module, other)
        for module, others in imports().items()
        for other in sorted(others)
        if is_command(other) and not is_command(module)
    ]
    assert not arrows


def test_the_graph_sees_what_it_must():
    graph = imports()
    assert len(graph) > 100
    assert {"jdarts.errors", "jdarts.runs.options"} <= graph["jdarts.search.config"]
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle_in({"a": {"b"}, "b": set()}) == []


def test_every_folder_of_modules_is_a_package():
    """Packaging leaves out folders without an `__init__.py`."""
    folders = {path.parent for path in ROOT.rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]
