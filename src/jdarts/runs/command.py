"""The command line of a run, with any configuration as its defaults."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax

from jdarts.command import program_name
from jdarts.files.user_cache import cache_folder, private_folder
from jdarts.runs.devices import provide_cpu_devices
from jdarts.runs.interruption import Interrupted, exit_now
from jdarts.runs.option_groups import parse
from jdarts.runs.processes import join, wait_for_others
from jdarts.runs.settings import Configuration
from jdarts.xla.allocator import keep_freed_memory
from jdarts.xla.compilation_cache import check_kept_programs
from jdarts.xla.jax_compat import silence_loading_of_programs

Config = TypeVar("Config", bound=Configuration)

_log = logging.getLogger(__name__)


def run_from_command_line(
    start: Callable[[Config], Any],
    defaults: Config,
    *,
    prog: str,
    description: str | None = None,
    presets: Callable[[Config, str], Config] | None = None,
    preset_option: str = "--method",
) -> int:
    """Parses the command line over the defaults, and starts the run.

    Args:
      start: starts the run of a configuration.
      defaults: the configuration that options change; its class has a method `check`.
      presets: `(defaults, NAME) -> defaults` for the option that names settings; all other options overrule it.
      preset_option: that option.
      prog: the command as the help text shows it.
      description: first lines of the help text; by default those of the class.

    Returns:
      The exit code.

    Raises:
      InputError: wrong settings, or raised by `start`; `jdarts.command.run_command` prints it.
    """
    name = _value_of(preset_option, sys.argv[1:])
    if presets is not None and name is not None:
        defaults = presets(defaults, name)
    config: Any = parse(defaults, prog=prog, description=description)
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


def _value_of(option: str, arguments: Sequence[str]) -> str | None:
    """The value of an option among the arguments; the last one, as for all options. None if it is not there."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(option, dest="value")
    try:
        return parser.parse_known_args(list(arguments))[0].value
    except argparse.ArgumentError:
        return None


def run_name(module: str, defaults: object | None) -> str:
    """The command of a run as its help text shows it: that of the module, or the script that has its own defaults."""
    return program_name(module) if defaults is None else f"python {sys.argv[0]}"


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
