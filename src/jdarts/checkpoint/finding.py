"""Finds the newest complete checkpoint of a folder, and the checkpoint of a path."""

from pathlib import Path

from jdarts.checkpoint.folders import FOLDER, UnreadableError, half_written, is_folder, newest_first, readable, step_of
from jdarts.checkpoint.records import Checkpoint, read
from jdarts.errors import InputError


def newest(folder: Path, skipped: list[str], *, up_to: float = float("inf")) -> Checkpoint | None:
    """The newest complete checkpoint.

    Args:
      folder: folder of the run's checkpoints.
      skipped: receives one message for each half-written or damaged checkpoint that is skipped.
      up_to: the largest step to consider.

    Raises:
      UnreadableError: the folder, or a checkpoint that may be the newest, cannot be read.
    """
    skipped += [f"checkpoint {path} is half-written" for path in sorted(half_written(folder), reverse=True)]
    for _, path in newest_first(folder, up_to):
        try:
            return read(path)
        except UnreadableError:
            raise
        except InputError as error:
            skipped.append(str(error))
    return None


def find(path: Path, skipped: list[str]) -> Checkpoint:
    """The checkpoint at a path, or the newest complete one of a run's folder.

    Args:
      path: a run's folder, its folder of checkpoints, or one checkpoint.
      skipped: as in `newest`.

    Raises:
      InputError: there is no such folder, no complete checkpoint in it, or the checkpoint is damaged.
    """
    with readable(path):
        if not path.exists():
            raise InputError(f"{path} does not exist; give a run's folder or a checkpoint in it")
    if is_folder(path / FOLDER):
        folder = path / FOLDER
    elif step_of(path) is not None:
        try:
            return read(path)
        except UnreadableError:
            raise
        except InputError as error:
            raise InputError(
                f"{error}; give another one, or the run's folder for its newest complete checkpoint"
            ) from None
    else:
        folder = path
    checkpoint = newest(folder, skipped)
    if checkpoint is None:
        why = f": {skipped[-1]}" if skipped else "; a search writes one at the end of each epoch"
        raise InputError(f"{path} holds no complete checkpoint{why}")
    return checkpoint
