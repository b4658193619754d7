"""The command line of a training on text, with any configuration as its defaults."""

from jdarts.language.train.config import LanguageTrainConfig
from jdarts.language.train.loop import train_language
from jdarts.runs.command import run_from_command_line, run_name


def main(defaults: LanguageTrainConfig | None = None, description: str | None = None) -> int:
    """Parses the command line over the defaults, and trains.

    Args:
      defaults: the configuration that options change; by default the paper's for Penn Treebank.
      description: first lines of the help text.

    Returns:
      The exit code.

    Raises:
      InputError: as `train_language`, for `jdarts.command.run_command` to print.
    """
    prog = run_name("jdarts.language.train", defaults)
    return run_from_command_line(train_language, defaults or LanguageTrainConfig(), prog=prog, description=description)
