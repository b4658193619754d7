"""How a run begins: anew, after an interruption, or not at all where it has finished."""

from collections.abc import Callable, Mapping
from typing import Any, TextIO

from jdarts.errors import InputError
from jdarts.runs import processes
from jdarts.runs.folder import RunFolder
from jdarts.runs.interruption import Interruption
from jdarts.runs.loop import EpochRun
from jdarts.runs.memory import exhaustion_explained
from jdarts.runs.protocols import Fingerprint, Setting, Summary


def run(
    config: Setting,
    begin: Callable[[RunFolder, Interruption], EpochRun[Any]],
    *,
    fingerprint: Callable[[], Fingerprint],
    finished: Callable[[RunFolder], Summary],
    noun: str,
    stream: TextIO | None = None,
) -> Any:
    """Starts a run, goes on with an interrupted one, or reports a finished one: the run's folder decides.

    Args:
      config: the settings.
      begin: reads the data, and makes the run of a folder.
      fingerprint: reads the data, and gives their fingerprint; the folder of a run on other data is refused.
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
        return _run(settings, folder, begin, fingerprint, finished, noun, stream)


def _run(
    settings: dict[str, Any],
    folder: RunFolder,
    begin: Callable[[RunFolder, Interruption], EpochRun[Any]],
    fingerprint: Callable[[], Fingerprint],
    finished: Callable[[RunFolder], Summary],
    noun: str,
    stream: TextIO | None,
) -> Any:
    folder.check(settings)
    if folder.has_ended:
        stream = stream if processes.leads() else processes.silent()
        remarks = check_finished(folder, settings, fingerprint)
        found = finished(folder)
        ended = f"{folder.path} has finished; another --run-dir or --seed starts another {noun}"
        for line in (ended, *found.lines(), *remarks):
            print(line, file=stream)
        return found.result
    with Interruption() as interruption, exhaustion_explained():
        with interruption.stoppable():
            prepared = begin(folder, interruption)
            prepared.check_size()
            processes.check_same_data(prepared.fingerprint)
        with folder.taken(settings, prepared.fingerprint), exhaustion_explained():
            return prepared.go()


def check_finished(
    folder: RunFolder, settings: Mapping[str, Any], fingerprint: Callable[[], Fingerprint]
) -> tuple[str, ...]:
    """Checks that a finished run is one of the data that its command reads.

    Args:
      folder: the run's folder.
      settings: the settings that decide the result, as JSON data.
      fingerprint: reads the data, and gives their fingerprint.

    Returns:
      What is to be said: that the data cannot be read any more, where that is so.

    Raises:
      InputError: the run is one of other data.
    """
    try:
        data = fingerprint()
    except InputError as error:
        return (f"{folder.path} is not compared with the data of this command: {error}",)
    folder.check(settings, data)
    return ()
