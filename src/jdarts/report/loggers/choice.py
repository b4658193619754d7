"""The loggers by name, as `--log` gives them."""

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jdarts.errors import InputError
from jdarts.report.loggers.interface import Logger

LoggerName = Literal["tensorboard", "wandb", "mlflow", "none"]
#: What loggers leave in a run's folder: folders of their names.
FOLDERS = ("tensorboard", "wandb", "mlflow")
#: Loggers whose packages are extras of the same names.
_EXTRAS = ("wandb", "mlflow")


def check_loggers(names: Sequence[LoggerName]) -> None:
    """Checks that the loggers can be used, before a run writes anything.

    Raises:
      InputError: no name, `none` beside others, a name twice, a package that is missing, or no account.
    """
    if not names:
        raise InputError("--log is empty; give tensorboard, wandb, mlflow or none")
    given = " ".join(names)
    if len(set(names)) < len(names):
        raise InputError(f"--log is {given}; give each name once")
    if "none" in names and len(names) > 1:
        raise InputError(f"--log is {given}; leave none out, or give it alone")
    for name in names:
        if name in _EXTRAS and not _is_installed(name):
            raise InputError(f"--log is {given}, and {name} is not installed; run: pip install 'jdarts[{name}]'")
    if "wandb" in names:
        from jdarts.report.loggers.wandb_runs import check_account

        check_account()


def _is_installed(package: str) -> bool:
    found = importlib.util.find_spec(package)
    # A folder of that name beside a script, such as the one that W&B writes to, has a spec without an origin.
    return found is not None and found.origin is not None


@contextlib.contextmanager
def open_loggers(
    names: Sequence[LoggerName], folder: Path, after_step: int, settings: Mapping[str, Any]
) -> Iterator[list[Logger]]:
    """Opens loggers of a run, and closes them at the end.

    Args:
      names: which ones.
      folder: the run's folder.
      after_step: the step from which the run resumes; 0 at its start.
      settings: the settings that decide the run's result, as JSON data.

    Raises:
      InputError: one cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        found = []
        for name in names:
            if name != "none":
                found.append(_open(name, folder, after_step, settings))
                stack.push(lambda kind, error, trace, logger=found[-1]: logger.close(failed=kind is not None))
        yield found


def _open(name: LoggerName, folder: Path, after_step: int, settings: Mapping[str, Any]) -> Logger:
    # The packages are imported where they are chosen: each takes a second or more.
    if name == "tensorboard":
        from jdarts.report.loggers.event_files import EventFile

        return EventFile(folder, after_step)
    if name == "wandb":
        from jdarts.report.loggers.wandb_runs import open_wandb

        return open_wandb(folder, settings)
    from jdarts.report.loggers.mlflow_runs import open_mlflow

    return open_mlflow(folder, settings)
