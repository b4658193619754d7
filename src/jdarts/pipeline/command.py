"""The command line of a pipeline, with any configuration as its defaults."""

from jdarts.pipeline.config import PipelineConfig
from jdarts.pipeline.protocol import pipeline
from jdarts.runs.command import run_from_command_line, run_name


def main(defaults: PipelineConfig | None = None, description: str | None = None) -> int:
    """Parses the command line over the defaults, and runs the protocol.

    Args:
      defaults: the configuration that options change; by default the paper's for CIFAR-10.
      description: first lines of the help text.

    Returns:
      The exit code.

    Raises:
      InputError: as `pipeline`, for `jdarts.command.run_command` to print.
    """
    prog = run_name("jdarts.pipeline", defaults)
    return run_from_command_line(
        pipeline,
        (defaults or PipelineConfig()).with_shared_once(),
        prog=prog,
        description=description,
        presets=PipelineConfig.with_method,
        preset_option="--search.method",
    )
