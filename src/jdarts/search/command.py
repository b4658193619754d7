"""The command line of a search, with any configuration as its defaults."""

from jdarts.runs.command import run_from_command_line, run_name
from jdarts.search.config import SearchConfig
from jdarts.search.loop import search
from jdarts.search.seeds import search_seeds


def main(defaults: SearchConfig | None = None, description: str | None = None) -> int:
    """Parses the command line over the defaults, and searches.

    Args:
      defaults: the configuration that options change; by default the paper's.
      description: first lines of the help text.

    Returns:
      The exit code.

    Raises:
      InputError: as `search`, for `jdarts.command.run_command` to print.
    """
    prog = run_name("jdarts.search", defaults)

    def start(config: SearchConfig) -> object:
        return search(config) if config.seeds is None else search_seeds(config)

    return run_from_command_line(
        start, defaults or SearchConfig(), prog=prog, description=description, presets=SearchConfig.with_method
    )
