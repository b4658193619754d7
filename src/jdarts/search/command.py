"""The command line of a search, with any configuration as its defaults."""

import os
import sys
from pathlib import Path

import jax
import tyro

from jdarts.search.config import SearchConfig
from jdarts.search.interruption import Interrupted, leave_now
from jdarts.search.loop import search


def main(defaults: SearchConfig | None = None, description: str | None = None) -> int:
    """Parses the command line over the defaults, and searches.

    Args:
      defaults: the configuration that options change; the paper's where it is not given.
      description: first lines of the help text.

    Returns:
      The exit code.

    Raises:
      InputError: as `search`, for `jdarts.command.run_command` to print.
    """
    prog = "python -m jdarts.search" if defaults is None else f"python {sys.argv[0]}"
    config = tyro.cli(SearchConfig, prog=prog, default=defaults or SearchConfig(), description=description)
    config.check()
    keep_compiled_programs()
    try:
        search(config)
    except Interrupted as interrupted:
        print(f"stopped by {interrupted}", file=sys.stderr)
        leave_now(interrupted.exit_code)
    return 0


def keep_compiled_programs() -> None:
    """Lets JAX keep compiled programs in the user's cache folder, unless its own settings name another place."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache / "jdarts" / "programs"))
    if jax.default_backend() == "cpu" and jax.config.values["jax_logging_level"] == "NOTSET":
        # Programs that this very machine has compiled are said not to fit it, at great length (openxla/xla#44565).
        jax.config.update("jax_logging_level", "CRITICAL")
