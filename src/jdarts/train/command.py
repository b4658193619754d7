"""The command line of a training, with any configuration as its defaults."""

from jdarts.runs.command import run_from_command_line, run_name
from jdarts.train.config import TrainConfig
from jdarts.train.loop import train


def main(defaults: TrainConfig | None = None, description: str | None = None) -> int:
    """Parses the command line over the defaults, and trains.

    Args:
      defaults: the configuration that options change; by default the paper's for CIFAR-10.
      description: first lines of the help text.

    Returns:
      The exit code.

    Raises:
      InputError: as `train`, for `jdarts.command.run_command` to print.
    """
    prog = run_name("jdarts.train", defaults)
    return run_from_command_line(train, defaults or TrainConfig(), prog=prog, description=description)
