"""Weights & Biases."""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jdarts.errors import InputError
from jdarts.report.loggers.interface import EpochCells
from jdarts.report.loggers.progress import OnceLogger, new_id, read_progress, run_name

#: W&B itself writes to a folder of this name below the folder that it is given.
FOLDER = "wandb"
PROJECT = "jdarts"


def check_account() -> None:
    """Checks that W&B can be used.

    Raises:
      InputError: it works online and knows no account.
    """
    import wandb  # pyright: ignore[reportMissingImports]

    with _errors_as_input():
        online = wandb.setup().settings.mode not in ("offline", "disabled")
        if online and not wandb.login(prompt=False):
            raise InputError(
                "--log is wandb, and this machine is not logged in to W&B; run `wandb login`, or set WANDB_MODE=offline to "
                "log to files"
            )


def open_wandb(folder: Path, settings: Mapping[str, Any]) -> OnceLogger:
    """The W&B run of a run's folder, which a resumed run continues.

    Args:
      folder: the run's folder.
      settings: those that decide its result, as JSON data.

    Raises:
      InputError: W&B cannot be reached, or the folder cannot be written.
    """
    import wandb  # pyright: ignore[reportMissingImports]

    progress = read_progress(folder / FOLDER)
    progress = progress._replace(id=progress.id or new_id())
    with _errors_as_input():
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=progress.id,
            name=run_name(folder),
            dir=folder,
            config=dict(settings),
            resume="allow",
            # Several seeds are several runs in one process.
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True),
        )
    return OnceLogger(_Wandb(wandb, run), folder / FOLDER, progress)


class _Wandb:
    def __init__(self, wandb: Any, run: Any) -> None:
        self._wandb = wandb
        self._run = run

    def write(self, step: int, now: float, numbers: Mapping[str, float], epoch: int | None) -> None:
        del now, epoch
        with _errors_as_input():
            self._run.log(dict(numbers), step=step)

    def write_cells(self, step: int, now: float, cells: EpochCells) -> None:
        del now
        from PIL import Image

        shown: dict[str, Any] = {
            f"alphas/{kind}": self._wandb.Histogram(weights.ravel()) for kind, weights in cells.alphas.items()
        }
        if cells.picture is not None:
            shown["cells"] = self._wandb.Image(Image.open(io.BytesIO(cells.picture)), caption=f"epoch {cells.epoch}")
        with _errors_as_input():
            self._run.log(shown, step=step)

    def close(self, *, failed: bool) -> None:
        with _errors_as_input():
            self._run.finish(exit_code=int(failed))


@contextmanager
def _errors_as_input() -> Iterator[None]:
    import wandb  # pyright: ignore[reportMissingImports]

    try:
        yield
    except (wandb.Error, OSError) as error:
        text = str(error).rstrip(".")
        raise InputError(
            f"cannot log to W&B: {text}; start the same command again, with WANDB_MODE=offline or without --log wandb if that "
            "lasts"
        ) from None
