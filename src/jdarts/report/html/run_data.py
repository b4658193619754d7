"""What the page of a run shows, gathered from the run's folder. Nothing here changes a folder."""

import dataclasses
import fcntl
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.files.json_data import Fields, as_number, parse_json
from jdarts.genotype import AnyGenotype, Cell, genotype_from_json
from jdarts.methods.mixture_record import MixtureRecord, read_mixture
from jdarts.report.cell_figure import cell_kinds_of, drawn_nodes
from jdarts.report.metrics import EPOCH, METRICS_FILE, read_metrics
from jdarts.report.mistakes import MistakeRecord, read_mistakes
from jdarts.report.surprises import SurpriseRecord, read_surprises
from jdarts.runs.folder import (
    CONFIG,
    DATA,
    LOCK,
    MEMORY,
    MISTAKES,
    SUMMARY,
    SURPRISES,
    genotype_file,
    mixture_file,
    stage_folder,
)

Kind = Literal["search", "training", "pipeline"]
State = Literal["finished", "running", "interrupted"]

Value = TypeVar("Value")


class EpochData(NamedTuple):
    """One finished epoch.

    Attributes:
      number: counted from 1.
      step: its last step.
      time: of its end, in seconds since 1970; NaN where the record has none.
      numbers: its numbers by name, such as `train_loss`.
      genotype: the cells after it; None for none.
      mixture: the mixture after it; None for none, as in runs of older versions.
    """

    number: int
    step: int
    time: float
    numbers: Mapping[str, float]
    genotype: AnyGenotype | None
    mixture: MixtureRecord | None


@dataclasses.dataclass(frozen=True)
class RunData:
    """A run as its folder describes it.

    Attributes:
      folder: the run's folder.
      kind: what the run does.
      is_text: whether it reads text; else images.
      state: finished, running in a process, or interrupted.
      settings: those that decide the result.
      data: the fingerprint of its data; empty for a run that is older than that.
      steps: the records of single steps.
      epochs: the finished epochs, in order.
      summary: the summary of a finished run; else empty.
      memory: what `jdarts.runs.memory.memory_facts` says; empty where the run has not written it.
      record: the record of the newest checkpoint; empty if there is none.
      genotype: the final cells, or those of the last epoch; None for none.
      mistakes: what a trained network gets wrong; None where the run has not written it.
      surprises: the words that a trained language model did not expect; None where the run has not written it.
      earlier: the stages before the last one of a search in stages, in order; empty for other runs.
      problems: what could not be read, one sentence each.
    """

    folder: Path
    kind: Kind
    is_text: bool
    state: State
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]
    epochs: Sequence[EpochData]
    summary: Mapping[str, Any]
    memory: Mapping[str, Any]
    record: Mapping[str, Any]
    genotype: AnyGenotype | None
    mistakes: MistakeRecord | None
    surprises: SurpriseRecord | None
    earlier: "tuple[RunData, ...]"
    problems: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    @property
    def total_epochs(self) -> int | None:
        """The epochs that the run was asked for; None if its settings do not tell."""
        epochs = self.settings.get("epochs")
        return epochs if isinstance(epochs, int) and not isinstance(epochs, bool) and epochs > 0 else None

    @property
    def stage(self) -> tuple[int, int] | None:
        """The number of the stage that the run is, from 1, and the number of stages; None for a search without stages."""
        number, kind = self.settings.get("stage"), self.settings.get("stages")
        listed = self.settings.get("dropped_operations" if kind == "p_darts" else "kept_operations")
        if not isinstance(number, int) or number < 1 or not isinstance(listed, list):
            return None
        return number, 1 + len(listed)

    @property
    def has_own_network(self) -> bool:
        """Whether it searches in or trains a network of the user's, which no command can name."""
        return "network" in self.data

    @property
    def seconds(self) -> float | None:
        """The time that the processes of the run have taken; None if unknown."""
        seconds = as_number(self.summary.get("seconds", self.record.get("seconds")))
        return seconds if seconds is not None and 0 <= seconds < math.inf else None

    @property
    def verdict_lines(self) -> tuple[str, ...]:
        """The verdict of a finished search in words; none for others, and for runs that are older than it."""
        # A search in a network of the user's has its words beside its choices.
        verdict = self.summary if self.has_own_network else self.summary.get("verdict")
        lines = verdict.get("text") if isinstance(verdict, dict) else None
        return tuple(line for line in lines if isinstance(line, str)) if isinstance(lines, list) else ()


class Change(NamedTuple):
    """A change of a cell from one epoch to the next.

    Attributes:
      kind: of the cell.
      node: number of the node, from 0.
      gone: entries `(operation, state)` that it no longer has.
      new: entries that it did not have.
    """

    kind: str
    node: int
    gone: Cell
    new: Cell


def finite_number(numbers: Mapping[str, Any], name: str) -> float | None:
    """A number of a run by its name; None where it is missing or not finite."""
    number = as_number(numbers.get(name))
    return number if number is not None and math.isfinite(number) else None


def changes(before: AnyGenotype, after: AnyGenotype) -> list[Change]:
    """The nodes whose entries differ between two genotypes of one kind."""
    found = []
    for kind in cell_kinds_of(after):
        nodes, old = drawn_nodes(after, kind)[0], drawn_nodes(before, kind)[0]
        for node, (entries, earlier) in enumerate(zip(nodes, old)):
            gone, new = Counter(earlier) - Counter(entries), Counter(entries) - Counter(earlier)
            if gone or new:
                found.append(Change(kind, node, tuple(gone.elements()), tuple(new.elements())))
    return found


def read_run(folder: Path, *, every_cell: bool = True) -> RunData:
    """Gathers what a run's folder holds. Damaged files are named in `problems`, and the rest is read.

    Args:
      folder: the run's folder.
      every_cell: whether to read cells and mixture of every epoch; else of the last one.

    Raises:
      InputError: the folder is not that of a run, or its settings cannot be read.
    """
    settings = _settings(folder)
    data = settings.pop(DATA, None)
    problems: list[str] = []

    def tried(name: str, read: Callable[[], Value], otherwise: Value) -> Value:
        try:
            return read()
        except FileNotFoundError:
            return otherwise
        except OSError as error:
            problems.append(f"{name} cannot be read: {error.strerror or error}")
        except (InputError, ValueError) as error:
            problems.append(str(error) if isinstance(error, InputError) else f"{name} is damaged: {error}")
        return otherwise

    records: list[dict[str, Any]] = []
    if (folder / METRICS_FILE).exists():
        records = tried(METRICS_FILE, lambda: read_metrics(folder), records)
    summary = tried(SUMMARY, lambda: _object(folder / SUMMARY), {})
    record = tried("the newest checkpoint", lambda: _newest_record(folder / checkpoint.FOLDER), {})
    ends = [each for each in records if EPOCH in each]
    epochs = [_epoch(folder, each, tried, cells=every_cell or each is ends[-1]) for each in ends]
    final = tried("genotype.json", lambda: genotype_from_json((folder / "genotype.json").read_text("utf-8")), None)
    last = next((each.genotype for each in reversed(epochs) if each.genotype is not None), None)
    return RunData(
        folder=folder,
        kind=_kind(settings, folder),
        is_text="bptt" in settings,
        state="finished" if (folder / SUMMARY).exists() else "running" if _is_locked(folder) else "interrupted",
        settings=settings,
        data=data if isinstance(data, dict) else {},
        steps=[each for each in records if EPOCH not in each],
        epochs=epochs,
        summary=summary,
        memory=tried(MEMORY, lambda: _object(folder / MEMORY), {}),
        record=record,
        genotype=final or last,
        earlier=_earlier_stages(folder, settings, problems),
        surprises=tried(SURPRISES, lambda: read_surprises((folder / SURPRISES).read_bytes()), None),
        mistakes=tried(MISTAKES, lambda: read_mistakes((folder / MISTAKES).read_bytes()), None),
        problems=tuple(dict.fromkeys(problems)),
    )


def _earlier_stages(folder: Path, settings: Mapping[str, Any], problems: list[str]) -> tuple[RunData, ...]:
    """The runs of the stages whose last one has this folder."""
    found, number = [], settings.get("stage")
    for earlier in range(1, number if isinstance(number, int) else 0):
        path = folder / stage_folder(earlier)
        if not path.is_dir():
            continue
        try:
            found.append(read_run(path, every_cell=False))
        except InputError as error:
            problems.append(str(error))
    return tuple(found)


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        return dict(_object(path))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} is no run's folder: it has no {CONFIG}; give the --run-dir of a run") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; make it readable") from None
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}), and without it a run cannot be reported; restore it") from None


def _object(path: Path) -> dict[str, Any]:
    content = parse_json(path.read_bytes())
    Fields(content)
    return content


def _kind(settings: Mapping[str, Any], folder: Path) -> Kind:
    if any(name.startswith("search.") for name in settings):
        return "pipeline"
    if "hypergradient" in settings:
        return "search"
    if "genotype" in settings or "schedule" in settings:
        return "training"
    raise InputError(f"{folder / CONFIG} is not that of a search, a training or a pipeline; give the folder of one")


def _newest_record(checkpoints: Path) -> dict[str, Any]:
    """The record of the newest checkpoint, whose arrays nobody reads here."""
    steps = checkpoint.steps(checkpoints)
    return _object(checkpoint.path_of(checkpoints, steps[0]) / checkpoint.RECORD) if steps else {}


def _epoch(folder: Path, record: Mapping[str, Any], tried: Callable[..., Any], *, cells: bool) -> EpochData:
    number = int(record[EPOCH]) if math.isfinite(record[EPOCH]) else 0
    genotype, mixture = genotype_file(number), mixture_file(number)
    return EpochData(
        number=number,
        step=record["step"],
        time=record.get("time", math.nan),
        numbers={name[len("epoch/") :]: value for name, value in record.items() if name.startswith("epoch/")},
        genotype=tried(genotype, lambda: genotype_from_json((folder / genotype).read_text("utf-8")), None)
        if cells
        else None,
        mixture=tried(mixture, lambda: read_mixture((folder / mixture).read_bytes()), None) if cells else None,
    )


def _is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of a run."""
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def genotype_text(genotype: AnyGenotype) -> str:
    """A genotype as one line of JSON."""
    return json.dumps(json.loads(genotype.to_json()))
