"""The summary of a run: its last file, which a later start of the finished run reads."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from jdarts.errors import InputError
from jdarts.files.json_data import Fields, parse_json
from jdarts.genotype import AnyGenotype, parse_genotype
from jdarts.methods.stopping import Stop
from jdarts.report import duration
from jdarts.runs.changes import Change, read_changes
from jdarts.runs.folder import PAGE, SUMMARY, RunFolder


class Result(Protocol):
    """The result of a kind of run.

    Attributes:
      genotype: the cells; None for a run without cells.
      folder: the run's folder.
    """

    @property
    def genotype(self) -> Any: ...  # noqa: D102

    @property
    def folder(self) -> Path: ...  # noqa: D102

    def lines(self) -> list[str]:
        """The result as text, one line each."""
        ...

    def to_json(self) -> dict[str, Any]:
        """The result as JSON data without genotype and folder."""
        ...


R = TypeVar("R", bound=Result)


class Summary(NamedTuple, Generic[R]):
    """A result with the epochs, steps and time that it took.

    Attributes:
      result: the result.
      epochs: epochs of the run.
      steps: steps of the run.
      seconds: time that the processes of the run have taken.
      stopped: why a stopping rule has ended it, and the epoch whose state is the result; None if none has.
      changes: what has changed on its way.
    """

    result: R
    epochs: int
    steps: int
    seconds: float
    stopped: Stop | None = None
    changes: tuple[Change, ...] = ()

    def lines(self) -> list[str]:
        """The result as text, one line each."""
        early = [] if self.stopped is None else [f"stopped early: {stop_text(self.stopped, self.epochs)}"]
        epochs = f"{self.epochs} epoch{'' if self.epochs == 1 else 's'}"
        return [
            f"finished: {epochs}, {self.steps:,} step{'' if self.steps == 1 else 's'} in {duration(self.seconds)}",
            *map(str, self.changes),
            *early,
            *self.result.lines(),
            *([f"page: {page}"] if (page := self.result.folder / PAGE).exists() else []),
        ]


def stop_text(stop: Stop, ended: int) -> str:
    """Why a run has stopped after `ended` epochs."""
    rolled_back = f"; the result is that of epoch {stop.epoch}" if stop.epoch < ended else ""
    return f"{stop.reason}{rolled_back}"


def read_stop(fields: Fields) -> Stop | None:
    """The field `stopped` of a summary or of a checkpoint's record, or None; a `ValueError` if it is damaged."""
    if not fields.has("stopped"):
        return None
    stopped = Fields(fields.get("stopped"))
    return Stop(stopped.text("reason"), stopped.count("epoch"))


def read_verdict(fields: Fields) -> dict[str, Any]:
    """The field `verdict` of a search's summary, empty where a run is older than it; a `ValueError` if it is damaged."""
    if not fields.has("verdict"):
        return {}
    verdict = fields.get("verdict")
    lines = verdict.get("text") if isinstance(verdict, dict) else None
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ValueError("verdict has no lines of text")
    return verdict


def write_summary(summary: Summary[Any], folder: RunFolder) -> None:
    """Writes the summary, which ends the run.

    Raises:
      InputError: the folder cannot be written, or the disk is full.
    """
    result = summary.result
    cells = {} if result.genotype is None else {"genotype": json.loads(result.genotype.to_json())}
    fields = {**cells, **result.to_json()}
    fields |= {"epochs": summary.epochs, "steps": summary.steps, "seconds": summary.seconds}
    if summary.stopped is not None:
        fields["stopped"] = summary.stopped._asdict()
    if summary.changes:
        fields["changes"] = [change._asdict() for change in summary.changes]
    folder.write(SUMMARY, json.dumps(fields, indent=1) + "\n")


def read_summary(folder: RunFolder, kind: type[AnyGenotype] | None, parse: Callable[[Fields, Any], R]) -> Summary[R]:
    """Reads the summary of a finished run.

    Args:
      folder: the run's folder.
      kind: type of the run's genotypes; None for a run without cells.
      parse: builds a result from the data of `Result.to_json` and the genotype.

    Raises:
      InputError: it cannot be read, or is damaged.
    """
    try:
        content = folder.summary.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {folder.summary}: {error.strerror or error}; make it readable and start the same command again"
        ) from None
    try:
        fields = Fields(parse_json(content))
        genotype = None if kind is None else parse_genotype(json.dumps(fields.get("genotype")), kind)
        result = parse(fields, genotype)
        stopped, changes = read_stop(fields), read_changes(fields)
        return Summary(
            result, fields.count("epochs"), fields.count("steps"), fields.seconds("seconds"), stopped, changes
        )
    except ValueError as error:
        raise InputError(f"{folder.summary} is damaged ({error}); remove it and start the same command again") from None
