"""How a run begins: anew, after an interruption, or not at all where it has finished."""

from collections.abc import Callable
from typing import Any, TextIO

from jdarts.runs import processes
from jdarts.runs.folder import RunFolder
from jdarts.runs.interruption import Interruption
from jdarts.runs.loop import EpochRun
from jdarts.runs.memory import exhaustion_explained
from jdarts.runs.protocols import Setting, Summary


def run(
    config: Setting,
    begin: Callable[[RunFolder, Interruption], EpochRun[Any]],
    *,
    finished: Callable[[RunFolder], Summary],
    noun: str,
    stream: TextIO | None = None,
) -> Any:
    """Starts a run, goes on with an interrupted one, or reports a finished one: the run's folder decides.

    Args:
      config: the settings.
      begin: reads the data, and makes the run of a folder.
      finished: reads the summary of a finished run.
      noun: what messages call this kind of run.
      stream: where progress is shown; standard output by default.

    Returns:
      The result of the summary.

    Raises:
      InputError: settings, data or folder do not fit, the disk is full, or a loss is not finite.
      Interrupted: SIGINT or SIGTERM came; the state was saved first.
    """
    config.check()
    settings = config.to_json()
    folder = RunFolder(config.folder)
    with processes.ending_together():
        processes.check_same(config)
        return _run(config, settings, folder, begin, finished, noun, stream)


def _run(
    config: Setting,
    settings: dict[str, Any],
    folder: RunFolder,
    begin: Callable[[RunFolder, Interruption], EpochRun[Any]],
    finished: Callable[[RunFolder], Summary],
    noun: str,
    stream: TextIO | None,
) -> Any:
    folder.check(settings)
    if folder.summary.exists():
        found = finished(folder)
        stream = stream if processes.leads() else processes.silent()
        ended = f"{folder.path} has finished; another --run-dir or --seed starts another {noun}"
        for line in (ended, *found.lines()):
            print(line, file=stream)
        return found.result
    with Interruption() as interruption, exhaustion_explained():
        with interruption.stoppable():
            prepared = begin(folder, interruption)
            prepared.check_size()
        with folder.taken(settings), exhaustion_explained():
            return prepared.go()
