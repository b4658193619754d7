"""Plug-ins: Python files or modules that add operations, activations and image sets before a command needs them."""

import hashlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Annotated, NamedTuple

import tyro

from jdarts.errors import InputError, shortened
from jdarts.operations import ACTIVATIONS, OPERATIONS, unregister_operations

#: The type of a command's option that names plug-ins; it may be given several times.
PluginOption = Annotated[
    tuple[str, ...],
    tyro.conf.UseAppendAction,
    tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: none; may be given several times)"),
]

#: What the code of a plug-in may raise.
_FAILURES = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError, RuntimeError, SyntaxError,
    TypeError, ValueError,
)  # fmt: skip
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_LONGEST = 200


class Plugin(NamedTuple):
    """A loaded plug-in.

    Attributes:
      name: its file's name without folders, or its module's name.
      checksum: SHA-256 of its file, in hexadecimal digits.
    """

    name: str
    checksum: str


_loaded: dict[str, Plugin] = {}


def load_plugin(plugin: str | os.PathLike[str]) -> Plugin:
    """Runs a plug-in's code, once in a process: it calls `jdarts.register_operation` and the like.

    Args:
      plugin: a Python file, or the name of a module that can be imported.

    Raises:
      InputError: there is no such file or module, its code fails, or it has changed since this process ran it. What it had
        registered is removed.
    """
    text = os.fspath(plugin)
    is_file = text.endswith(".py") or os.sep in text or Path(text).is_file()
    path = Path(text).resolve() if is_file else _file_of_module(text)
    found = Plugin(path.name if is_file else text, _checksum(text, path))
    key = str(path)
    if key in _loaded:
        if _loaded[key].checksum != found.checksum:
            raise InputError(f"--plugin {text} has changed since this process ran it; start a new process")
        return _loaded[key]
    before = {*OPERATIONS, *ACTIVATIONS}
    try:
        if is_file:
            _run_file(path, found)
        else:
            importlib.import_module(text)
    except _FAILURES as error:
        unregister_operations({*OPERATIONS, *ACTIVATIONS} - before)
        raise InputError(f"--plugin {text}: {_explanation(error, key)}") from error
    _loaded[key] = found
    return found


def load_plugins(plugins: Iterable[str]) -> None:
    """`load_plugin` of each."""
    for each in plugins:
        load_plugin(each)


def recorded(plugins: Iterable[str]) -> list[str]:
    """Names and checksums of plug-ins, as the folder of a run records them; `load_plugin` runs those that are new.

    Raises:
      InputError: as for `load_plugin`.
    """
    return [f"{name} sha256:{checksum[:16]}" for name, checksum in map(load_plugin, plugins)]


def _file_of_module(name: str) -> Path:
    if not _MODULE.fullmatch(name):
        raise InputError(f"--plugin is {shortened(name)}; give a Python file, or the name of a module")
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    except _FAILURES as error:  # Of the packages around the module.
        raise InputError(f"--plugin {name}: {_explanation(error, '')}") from error
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise InputError(f"--plugin is {name}, and there is no such file or module; give the path of a Python file")
    return Path(spec.origin).resolve()


def _checksum(text: str, path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"cannot read --plugin {shortened(text, _LONGEST)}: {error.strerror or error}") from None


def _run_file(path: Path, plugin: Plugin) -> None:
    name = f"jdarts_plugin_{path.stem}_{plugin.checksum[:8]}"
    spec = importlib.util.spec_from_file_location(name, path, loader=SourceFileLoader(name, str(path)))
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    # Dataclasses and Flax modules look up the module of their class.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _explanation(error: BaseException, file: str) -> str:
    """What went wrong, with the line of the plug-in where it did."""
    text = " ".join(str(error).split())
    if isinstance(error, InputError):
        return text
    if isinstance(error, SyntaxError):
        return f"line {error.lineno} is not Python ({error.msg})"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    place = f"line {lines[-1]}: " if lines else ""
    return f"{place}{type(error).__name__}: {shortened(text, _LONGEST)}"
