"""How a run starts: from the beginning, after its newest checkpoint, or not at all where it has finished."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from jdarts.errors import InputError
from jdarts.runs import processes
from jdarts.runs.context import Context
from jdarts.runs.folder import Fingerprint, RunFolder
from jdarts.runs.interruption import Interruption
from jdarts.runs.loop import Loop
from jdarts.runs.memory import available_memory, check_state_fits, exhaustion_explained
from jdarts.runs.programs import CompiledPrograms
from jdarts.runs.store import Part, Store
from jdarts.runs.summaries import Summary
from jdarts.runs.task import Task


class Setting(Protocol):
    """What the start of a run reads of its configuration."""

    @property
    def folder(self) -> Path: ...  # noqa: D102

    def check(self) -> None: ...  # noqa: D102

    def to_json(self) -> dict[str, Any]: ...  # noqa: D102


def run(
    config: Setting,
    task: Callable[[], Task[Any]],
    *,
    noun: str,
    fingerprint: Callable[[], Fingerprint],
    finished: Callable[[RunFolder], Summary[Any]],
    title: str | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> Any:
    """Starts a run, resumes an interrupted one, or reports a finished one: the run's folder decides.

    Args:
      config: the settings.
      task: reads the data, and gives what the run does.
      noun: what messages call this kind of run.
      fingerprint: reads the data, and gives their fingerprint; the folder of a run on other data is refused.
      finished: reads the summary of a finished run.
      title: what is written above the drawings of its cells.
      stream: where progress is shown; standard output by default.
      programs: compiled functions to share with other runs of this process.

    Returns:
      The result of the summary.

    Raises:
      InputError: settings, data or folder do not fit, the disk is full, or a loss is not finite.
      Interrupted: SIGINT or SIGTERM came; the state was saved first.
    """
    config.check()
    folder, settings = RunFolder(config.folder), config.to_json()
    with processes.ending_together():
        processes.check_same(config)
        folder.check(settings)
        if folder.has_ended:
            remarks = check_finished(folder, settings, fingerprint)
            found = finished(folder)
            ended = f"{folder.path} has finished; another --run-dir or --seed starts another {noun}"
            show([ended, *found.lines(), *remarks], stream)
        else:
            (found,) = begin(task, [Part(folder, settings, title)], stream, programs)
            show(found.lines(), stream)
        return found.result


def begin(
    task: Callable[[], Task[Any]],
    parts: Sequence[Part],
    stream: TextIO | None,
    programs: CompiledPrograms | None,
) -> tuple[Summary[Any], ...]:
    """Starts or resumes runs that have not finished.

    Args:
      task: as for `run`; of several runs, their `batched` task.
      parts: the runs.
      stream: as for `run`.
      programs: as for `run`.

    Returns:
      The summary of each run.

    Raises:
      InputError: as for `run`.
      Interrupted: as for `run`.
    """
    with Interruption() as interruption, exhaustion_explained():
        with interruption.stoppable():
            prepared = task()
            check_size(prepared)
            processes.check_same_data(prepared.fingerprint)
        store = Store(parts)
        context = Context(store, interruption, programs or CompiledPrograms(), stream)
        with store.taken(prepared.fingerprint), exhaustion_explained():
            return Loop(prepared, context).run()


def check_size(task: Task[Any]) -> None:
    """Checks, before the folder of a run is made, that its steps can be counted and its state held.

    Raises:
      InputError: more steps than 32 bits count, or a state that is larger than the memory.
    """
    most = (2**31 - 1) // task.steps_per_epoch
    if task.options.epochs > most:
        raise InputError(
            f"--epochs is {task.options.epochs} of {task.steps_per_epoch:,} steps each, and 2^31 steps cannot be counted; "
            f"give {most} or less"
        )
    check_state_fits(task.template, available_memory())


def check_finished(
    folder: RunFolder, settings: Mapping[str, Any], fingerprint: Callable[[], Fingerprint]
) -> tuple[str, ...]:
    """Checks that a finished run is one of the data that its command reads.

    Args:
      folder: the run's folder.
      settings: the settings that decide the result, as JSON data.
      fingerprint: reads the data, and gives their fingerprint.

    Returns:
      A remark that the data cannot be read any more, where that is so.

    Raises:
      InputError: the run is one of other data.
    """
    try:
        data = fingerprint()
    except InputError as error:
        return (f"{folder.path} is not compared with the data of this command: {error}",)
    folder.check(settings, data)
    return ()


def show(lines: Sequence[str], stream: TextIO | None) -> None:
    """Writes lines to a stream, standard output where it is None; only the coordinator does."""
    if processes.is_coordinator():
        print(*lines, sep="\n", end="\n" if lines else "", file=stream, flush=True)
