"""The command line of a run, with any configuration as its defaults."""

import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import tyro

from jdarts.files.user_cache import cache_folder, private_folder
from jdarts.runs.devices import provide_cpu_devices
from jdarts.runs.interruption import Interrupted, exit_now
from jdarts.runs.processes import join, wait_for_others
from jdarts.xla.allocator import keep_freed_memory
from jdarts.xla.compilation_cache import check_kept_programs
from jdarts.xla.jax_compat import silence_loading_of_programs

Config = TypeVar("Config")

_log = logging.getLogger(__name__)


def run_from_command_line(
    start: Callable[[Config], Any], defaults: Config, *, prog: str, description: str | None = None
) -> int:
    """Parses the command line over the defaults, and starts the run.

    Args:
      start: starts the run of a configuration.
      defaults: the configuration that options change; its class has a method `check`.
      prog: the command as the help text shows it.
      description: first lines of the help text; by default those of the class.

    Returns:
      The exit code.

    Raises:
      InputError: wrong settings, or raised by `start`; `jdarts.command.run_command` prints it.
    """
    config: Any = tyro.cli(type(defaults), prog=prog, default=defaults, description=description)
    config.check()
    devices = config.parallelism.devices
    if devices == 1:
        keep_freed_memory()
    provide_cpu_devices(devices)
    if hasattr(config, "processes"):
        join(config.processes)
    keep_compiled_programs()
    try:
        start(config)
    except Interrupted as interrupted:
        print(f"stopped by {interrupted}", file=sys.stderr)
        wait_for_others()
        exit_now(interrupted.exit_code)
    return 0


def program_name(module: str, defaults: object | None) -> str:
    """The command as the help text shows it: the module, or the script that has its own defaults."""
    return f"python -m {module}" if defaults is None else f"python {sys.argv[0]}"


def keep_compiled_programs() -> None:
    """Keeps JAX's compiled programs in the user's cache folder, unless JAX's settings name another folder.

    Only a folder that nobody else may write to is used.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        try:
            folder = private_folder(private_folder(cache_folder()) / "programs")
            jax.config.update("jax_compilation_cache_dir", str(folder))
        except OSError as error:
            _log.warning("compiled programs are not kept for the next start: no cache folder (%s)", error)
    check_kept_programs()
    silence_loading_of_programs()
