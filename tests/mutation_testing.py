"""Breaks each public function of the core once, and looks whether a test notices.

Each break is made in a copy of the sources, so that processes which tests start run it too. A function whose break no test
notices is printed at the end, with the break, and the exit code is 1.

    python tests/mutation_testing.py
    python tests/mutation_testing.py --only derivation bilevel --breaks 3 --seed 1
"""

import argparse
import ast
import concurrent.futures
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "jdarts"

#: Rooms of the core below src/jdarts, and the tests that ought to notice, the quickest first.
ROOMS: dict[str, tuple[str, ...]] = {
    "bilevel": ("test_bilevel.py", "test_optimizers.py", "test_toy.py", "test_fixture_hypergradient.py"),
    "derivation": ("test_derivation.py", "test_recurrent_genotype.py", "test_sampling.py", "test_derive_command.py"),
    "relaxation": ("test_methods.py", "test_derivation.py", "test_supernet.py", "test_search_step.py"),
    "genotype": ("test_genotype.py", "test_recurrent_genotype.py", "test_pasted_genotypes.py"),
    "ops/mixing": ("test_mixing.py", "test_native_mixing.py", "test_route_grids.py", "test_supernet.py"),
    "ops/norm": ("test_mixing.py", "test_supernet.py"),
    "optimizers": ("test_optim.py", "test_trees.py", "test_language_train_step.py", "test_fixture_recurrent.py"),
    "checkpoint": ("test_checkpoint.py", "test_search_resume.py", "test_derive_command.py"),
}

#: Seconds after which the tests of a break count as failed: it may loop for ever.
PATIENCE = 900.0


class Break(NamedTuple):
    """One change of one function.

    Attributes:
      path: the module, below src/jdarts.
      function: its qualified name.
      line: where the change is.
      what: the change in words.
      source: the module's changed source.
    """

    path: Path
    function: str
    line: int
    what: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.function}: {self.what}"


_SWAPPED: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Add,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def functions(tree: ast.Module, *, private: bool) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions and methods of a module with their qualified names: the public ones, and private ones where asked."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and (private or not node.name.startswith("_")):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and (private or not node.name.startswith("_")):
            for each in node.body:
                if isinstance(each, ast.FunctionDef) and not _is_declaration(each):
                    special = each.name in ("__init__", "__post_init__", "__call__")
                    if private or special or not each.name.startswith("_"):
                        yield f"{node.name}.{each.name}", each


def _is_declaration(node: ast.FunctionDef) -> bool:
    """Whether a function has no statements: one of a protocol, or an abstract one."""
    return all(isinstance(each, ast.Pass) or _is_text(each) for each in node.body)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def changes(function: ast.FunctionDef) -> Iterator[tuple[int, str]]:
    """All changes of a function, each made in place while the generator waits and taken back afterwards."""
    for node in _running(function):
        for what, field, place, value in _changes_of(node):
            changed: Any = node
            if place is None:
                old = getattr(changed, field)
                setattr(changed, field, value)
                yield getattr(node, "lineno", function.lineno), what
                setattr(changed, field, old)
            else:
                entries = getattr(changed, field)
                old, entries[place] = entries[place], value
                yield getattr(node, "lineno", function.lineno), what
                entries[place] = old


def _changes_of(node: ast.AST) -> Iterator[tuple[str, str, int | None, Any]]:
    """Changes of one node: in words, and the field, the place in it and the new value that make them."""
    match node:
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in _SWAPPED:
            yield _swap(op, "op", None)
        case ast.Compare(ops=ops):
            for place, op in enumerate(ops):
                yield _swap(op, "ops", place)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "not is dropped", "operand", None, ast.UnaryOp(ast.Not(), operand)
        case ast.UnaryOp(op=ast.USub()):
            yield "minus is dropped", "op", None, ast.UAdd()
        case ast.Constant(value=bool(value)):
            yield f"{value} becomes {not value}", "value", None, not value
        case ast.Constant(value=int(value) | float(value)):
            yield f"{value} becomes {value + 1}", "value", None, value + 1
        case ast.IfExp(test=test):
            yield "the branches change places", "test", None, ast.UnaryOp(ast.Not(), test)
        case ast.Return(value=ast.Call(args=[first, *_])):
            yield "the outermost call is dropped", "value", None, first
        case ast.Return(value=ast.expr()):
            yield "nothing is returned", "value", None, ast.Constant(None)


def _swap(operator: ast.AST, field: str, place: int | None) -> tuple[str, str, int | None, Any]:
    other = _SWAPPED[type(operator)]
    return f"{type(operator).__name__} becomes {other.__name__}", field, place, other()


def _running(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function that run and matter: no annotations, no texts of errors, no axis that may have two numbers."""
    waiting: list[ast.AST] = [*function.body]
    while waiting:
        node = waiting.pop(0)
        is_axis = isinstance(node, ast.keyword) and node.arg == "axis"
        if isinstance(node, (ast.Raise, ast.JoinedStr)) or _is_text(node) or is_axis:
            continue
        yield node
        for name, value in ast.iter_fields(node):
            if name not in ("annotation", "returns", "type_params"):
                waiting += [
                    each for each in (value if isinstance(value, list) else [value]) if isinstance(each, ast.AST)
                ]


def breaks_of(path: Path, count: int, seed: int, *, private: bool) -> Iterator[Break]:
    """So many breaks of each function of a module, chosen by the seed; all where it has fewer."""
    tree = ast.parse((SOURCE / path).read_text())
    for name, function in functions(tree, private=private):
        made = [(line, what, ast.unparse(tree)) for line, what in changes(function)]
        random.Random(f"{seed} {path} {name}").shuffle(made)
        for line, what, source in made[:count]:
            yield Break(path, name, line, what, source)


def notices(each: Break, tests: tuple[str, ...]) -> str | None:
    """The test that fails with a break, or None."""
    with tempfile.TemporaryDirectory(prefix="jdarts-break-") as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        (source / "jdarts" / each.path).write_text(each.source)
        command = [sys.executable, "-m", "pytest", "-x", "--tb=no", "-p", "no:cacheprovider", "--show-capture=no"]
        environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
        # In its own folder, so that the interpreter does not find the unchanged sources first.
        found = [str(ROOT / "tests" / name) for name in tests if (ROOT / "tests" / name).exists()]
        try:
            ended = subprocess.run(
                [*command, "-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}", *found],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired:
            return f"no end after {PATIENCE:.0f} s"
    if ended.returncode == 0:
        return None
    lines = [line for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0].split(" - ")[0] if lines else f"exit code {ended.returncode}"


def modules_of(room: str) -> list[Path]:
    """The modules of a room: a file, or all in a folder."""
    place = SOURCE / room
    found = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return [path.relative_to(SOURCE) for path in found if path.exists()]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="mutation_testing.py"
    )
    parser.add_argument("--only", nargs="+", choices=ROOMS, default=list(ROOMS), metavar="ROOM", help=", ".join(ROOMS))
    parser.add_argument("--breaks", type=int, default=1, help="breaks of each function (default: 1)")
    parser.add_argument("--private", action="store_true", help="break private functions too")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of breaks (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="breaks that are tested at once (default: 2)")
    asked = parser.parse_args()
    chosen = [
        (each, ROOMS[room])
        for room in asked.only
        for path in modules_of(room)
        for each in breaks_of(path, asked.breaks, asked.seed, private=asked.private)
    ]
    started, survived = time.monotonic(), []
    with concurrent.futures.ThreadPoolExecutor(asked.jobs) as pool:
        for (each, _), noticed in zip(chosen, pool.map(lambda pair: notices(*pair), chosen)):
            print(f"{'survives' if noticed is None else 'noticed '}  {each}  {noticed or ''}", flush=True)
            if noticed is None:
                survived.append(each)
    took = time.monotonic() - started
    print(f"\n{len(chosen) - len(survived)} of {len(chosen)} breaks noticed in {took:.0f} s")
    for each in survived:
        print(f"no test notices: {each}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
