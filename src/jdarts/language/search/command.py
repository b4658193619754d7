"""The command line of a search on text, with any configuration as its defaults."""

from jdarts.language.search.config import LanguageSearchConfig
from jdarts.language.search.loop import search_language
from jdarts.runs.command import run_from_command_line, run_name


def main(defaults: LanguageSearchConfig | None = None, description: str | None = None) -> int:
    """Parses the command line over the defaults, and searches.

    Args:
      defaults: the configuration that options change; by default the paper's.
      description: first lines of the help text.

    Returns:
      The exit code.

    Raises:
      InputError: as `search_language`, for `jdarts.command.run_command` to print.
    """
    prog = run_name("jdarts.language.search", defaults)
    return run_from_command_line(
        search_language,
        defaults or LanguageSearchConfig(),
        prog=prog,
        description=description,
        presets=LanguageSearchConfig.with_method,
    )
