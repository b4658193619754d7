"""The start of a run: from the beginning, from its newest checkpoint, or not at all if it has finished."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

import jax

from jdarts.errors import InputError
from jdarts.runs import processes
from jdarts.runs.context import Context
from jdarts.runs.folder import Fingerprint, RunFolder
from jdarts.runs.interruption import Interrupted, Interruption
from jdarts.runs.loop import Loop
from jdarts.runs.memory import available_memory, check_state_fits, out_of_memory_as_input_error
from jdarts.runs.options import Loop as LoopOptions
from jdarts.runs.options import MatmulPrecision, Parallelism
from jdarts.runs.options import Run as RunOptions
from jdarts.runs.programs import CompiledPrograms
from jdarts.runs.same_run import NOTHING, allowed_changes
from jdarts.runs.settings import Settings, flat
from jdarts.runs.store import Part, Store
from jdarts.runs.summaries import Summary
from jdarts.runs.task import Task
from jdarts.runs.time_limit import TIME_IS_UP, limited, time_limit
from jdarts.xla.tracing import with_stack_space, without_garbage_collection


class Setting(Protocol):
    """The part of a configuration that the start of a run reads."""

    @property
    def folder(self) -> Path: ...  # noqa: D102

    @property
    def run(self) -> RunOptions: ...  # noqa: D102

    @property
    def loop(self) -> LoopOptions: ...  # noqa: D102

    @property
    def parallelism(self) -> Parallelism: ...  # noqa: D102

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
    settings: Mapping[str, Any] | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> Any:
    """Starts a run, resumes an interrupted one, or reports a finished one: the run's folder decides.

    Args:
      config: the settings.
      task: reads the data and returns the task of the run.
      noun: the name of this kind of run in messages.
      fingerprint: reads the data and returns their fingerprint; the folder of a run on other data is refused.
      finished: reads the summary of a finished run.
      title: title of the drawings of its cells.
      settings: those that decide the result, as JSON data; by default all that the configuration has.
      stream: where progress is shown; standard output by default.
      programs: compiled functions to share with other runs of this process.

    Returns:
      The result of the summary.

    Raises:
      InputError: settings, data or folder do not fit, the disk is full, or a loss is not finite.
      Interrupted: SIGINT or SIGTERM came, or the time limit is over; the state was saved first.
    """
    config.check()
    allowed = allowed_changes(flat(config)) if isinstance(config, Settings) else NOTHING
    folder = RunFolder(config.folder, allowed=allowed)
    settings = config.to_json() if settings is None else settings
    with processes.fail_together(), limited(config.run.time_limit):
        processes.check_same(config)
        folder.check(settings)
        if folder.is_finished(settings):
            remarks = check_finished(folder, settings, fingerprint)
            summary = finished(folder)
            ended = f"{folder.path} has finished; another --run-dir or --seed starts another {noun}"
            show([ended, *summary.lines(), *remarks], stream)
        else:
            (summary,) = begin(task, [Part(folder, settings, title)], config.parallelism, stream, programs)
            show(summary.lines(), stream)
        return summary.result


@with_stack_space
def begin(
    task: Callable[[], Task[Any]],
    parts: Sequence[Part],
    parallelism: Parallelism,
    stream: TextIO | None,
    programs: CompiledPrograms | None,
) -> tuple[Summary[Any], ...]:
    """Starts or resumes runs that have not finished.

    Args:
      task: as for `run`; for several runs, their `batched` task.
      parts: the runs.
      parallelism: how the devices compute.
      stream: as for `run`.
      programs: as for `run`.

    Returns:
      The summary of each run.

    Raises:
      InputError: as for `run`.
      Interrupted: as for `run`.
    """
    limit = time_limit()
    if processes.maximum(int(limit is not None and not limit.begin_run())):
        show(["the time is over before the next run begins; run the same command to resume"], stream)
        raise Interrupted(TIME_IS_UP)
    with (
        Interruption() as interruption,
        out_of_memory_as_input_error(),
        _matmul_precision(parallelism.matmul_precision),
    ):
        with interruption.interruptible(), without_garbage_collection():
            prepared = task()
            check_size(prepared)
            processes.check_same_data(prepared.fingerprint)
        store = Store(parts)
        context = Context(store, interruption, programs or CompiledPrograms(), stream)
        with store.lock(prepared.fingerprint), out_of_memory_as_input_error():
            return Loop(prepared, context).run()


def _matmul_precision(precision: MatmulPrecision) -> contextlib.AbstractContextManager[None]:
    """Traces programs with a precision; with the default, in the precision that the user has set in JAX."""
    return contextlib.nullcontext() if precision == "default" else jax.default_matmul_precision(precision)


def check_size(task: Task[Any]) -> None:
    """Checks that a run's steps can be counted and its state held, before its folder is created.

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
    """Checks that a finished run has the data of the present command.

    Args:
      folder: the run's folder.
      settings: the settings that decide the result, as JSON data.
      fingerprint: reads the data and returns their fingerprint.

    Returns:
      A remark if the data can no longer be read; else nothing.

    Raises:
      InputError: the run has other data.
    """
    try:
        data = fingerprint()
    except InputError as error:
        return (f"{folder.path} is not compared with the data of this command: {error}",)
    folder.check(settings, data)
    return ()


def show(lines: Sequence[str], stream: TextIO | None) -> None:
    """Writes lines to a stream, or to standard output if it is None; only the coordinator does."""
    if processes.is_coordinator():
        print(*lines, sep="\n", end="\n" if lines else "", file=stream, flush=True)
