"""Whether a command has the settings and the data of the run in a folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jdarts.errors import InputError
from jdarts.runs.bounds import option
from jdarts.runs.settings import BEFORE

#: Identifies the data of a run, as JSON data.
Fingerprint = Mapping[str, Any]

#: The fingerprint of a run's data in its `config.json`.
DATA = "data"
#: The number of epochs in a run's `config.json`.
EPOCHS = "epochs"
#: The number of examples of a batch there.
BATCH_SIZE = "batch_size"
#: Settings that a command may change of a run that it resumes, with the setting that allows it, and in words.
CHANGEABLE = {
    EPOCHS: ("extend", "to give it more epochs"),
    BATCH_SIZE: ("change_batch_size", "to resume it with other batches"),
}
#: No setting that a command may change.
NOTHING: Mapping[str, bool] = {}
#: Characters of a value in a message.
_LONGEST = 80
#: Runs without a fingerprint read every set in its stored order.
_BEFORE_FINGERPRINTS = {"shuffled": True}


def allowed_changes(settings: Mapping[str, Any]) -> dict[str, bool]:
    """The settings of `CHANGEABLE` that a kind of run can change, and whether a command may; from all its settings."""
    return {name: settings[allows] for name, (allows, _) in CHANGEABLE.items() if allows in settings}


def check_same(
    folder: Path,
    before: Mapping[str, Any],
    config: Mapping[str, Any],
    data: Fingerprint | None,
    *,
    allowed: Mapping[str, bool] = NOTHING,
) -> None:
    """Checks that a command has the settings and the data of a run.

    Args:
      folder: the run's folder.
      before: the content of its `config.json`.
      config: the settings of the command that decide the result, as JSON data.
      data: the fingerprint of its data, if they have been read.
      allowed: settings of `CHANGEABLE` that this kind of run can change, and whether the command may.

    Raises:
      InputError: it has others.
    """
    missing = object()
    before = dict(before)
    of_run = before.pop(DATA, _BEFORE_FINGERPRINTS)
    # Settings that are younger than the run; those of a pipeline's parts have names such as `search.precision`.
    younger = {name: BEFORE[name.rpartition(".")[2]] for name in config if name.rpartition(".")[2] in BEFORE}
    before = {**younger, **before}
    # Settings of older runs that no run writes any more, such as a part's own where the parts now share one.
    older = {name: BEFORE[name.rpartition(".")[2]] for name in before if name.rpartition(".")[2] in BEFORE}
    now = {**older, **config}
    different = [name for name in {**before, **now} if before.get(name, missing) != now.get(name, missing)]
    changed = [name for name in different if name in allowed and isinstance(before.get(name), int)]
    if EPOCHS in changed and allowed[EPOCHS]:
        _check_more(folder, before[EPOCHS], now[EPOCHS])
    different = [name for name in different if not (name in changed and allowed[name])]
    if different:
        listed = ", ".join(
            f"{option(name)} {_shortened(before.get(name))} (now {_shortened(now.get(name))})" for name in different[:4]
        )
        if set(different) <= set(changed) and (EPOCHS not in different or before[EPOCHS] < now[EPOCHS]):
            mends = [f"{option(allows)} {words}" for allows, words in (CHANGEABLE[name] for name in different)]
            raise InputError(
                f"{folder} was begun with {listed}; add {' and '.join(mends)}, or choose another --run-dir"
            )
        raise InputError(
            f"{folder} was begun with other settings: {listed}; give the same settings to resume it, or choose another "
            "--run-dir"
        )
    if data is not None:
        _check_data(folder, of_run, data)


def _check_more(folder: Path, before: int, now: int) -> None:
    if now < before:
        raise InputError(
            f"--epochs is {now}, and {folder} is a run of {before}; --extend gives it more: {before + 1} or above"
        )


def _check_data(folder: Path, before: Any, data: Fingerprint) -> None:
    if not isinstance(before, dict):
        raise InputError(f"{folder} is damaged; choose another --run-dir")
    different = [name for name in before if name in data and before[name] != data[name]]
    if different:
        listed = ", ".join(
            f"{name} {_shortened(before[name])} (now {_shortened(data[name])})" for name in different[:4]
        )
        raise InputError(
            f"{folder} was begun with other data: {listed}; give the same data to resume it, or choose another --run-dir"
        )


def _shortened(value: Any) -> str:
    text = (" ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
