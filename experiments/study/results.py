"""The results of a study as one JSON file: rows, settings, command, versions, machine and time."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jdarts.errors import InputError
from jdarts.files.atomic import replace_text
from jdarts.files.json_data import Fields, parse_json
from jdarts.report.formatting import duration

#: Okabe and Ito's colours, for the figures.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#8A4F7D", "#E69F00", "#444444", "#56B4E9", "#CC79A7")

#: Cells without a measurement that are named under a table; the file of the results has all.
_SHOWN = 6


@dataclasses.dataclass(frozen=True)
class Results:
    """The results of one study.

    Attributes:
      study: its name.
      version: quick or full.
      command: that measured them.
      settings: of the study, JSON data.
      images: name of the image set, and its fingerprint.
      machine: processor, cores, devices and versions of packages, of the first cell.
      seconds: time of all cells together.
      processor_seconds: time of all cores.
      rows: one for each measured thing: JSON objects.
      missing: cells that have not been measured.
    """

    study: str
    version: str
    command: str
    settings: Mapping[str, Any]
    images: Mapping[str, Any]
    machine: Mapping[str, Any]
    seconds: float
    processor_seconds: float
    rows: Sequence[Mapping[str, Any]]
    missing: Sequence[Mapping[str, Any]] = ()

    def where(self, **entries: Any) -> list[Mapping[str, Any]]:
        """The rows with these entries."""
        return [row for row in self.rows if all(row.get(name) == value for name, value in entries.items())]

    def values(self, name: str) -> list[Any]:
        """The different values of an entry, in the order of the rows."""
        return list(dict.fromkeys(row[name] for row in self.rows if name in row))

    def write(self, path: Path) -> None:
        """Writes the file, numbers with six digits."""
        content = dataclasses.asdict(self)
        content["rows"] = [_rounded(row) for row in self.rows]
        lines = [f'"{name}": {json.dumps(value)}' for name, value in content.items() if name != "rows"]
        rows = ",\n".join(json.dumps(row, allow_nan=False) for row in content["rows"])
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, "{\n" + ",\n".join(lines) + f',\n"rows": [\n{rows}\n]\n' + "}\n")

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Reads the file.

        Raises:
          InputError: it is missing or damaged.
        """
        try:
            fields = Fields(parse_json(path.read_text(encoding="utf-8")))
            return cls(**{field.name: fields.get(field.name) for field in dataclasses.fields(cls)})
        except FileNotFoundError:
            raise InputError(f"there are no results in {path}; run the study first") from None
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error}); run the study again") from error

    def words(self) -> str:
        """One paragraph under the tables: what measured them, on what, how long."""
        versions = ", ".join(f"{name} {self.machine[name]}" for name in ("jax", "flax") if name in self.machine)
        devices = self.machine["devices"]
        accelerators = "" if devices.endswith("CPU") else f", {devices}"
        text = (
            f"The {self.version} version of `{self.command}` on {self.images['name']}; {self.machine['processor']}, "
            f"{self.machine['cores']} cores{accelerators}; {versions}; {duration(self.processor_seconds)} of processor time."
        )
        if self.missing:
            cells = "; ".join(map(cell_words, self.missing[:_SHOWN]))
            rest = f"; and {len(self.missing) - _SHOWN} more" if len(self.missing) > _SHOWN else ""
            text += f" Not measured: {cells}{rest}."
        return text


def cell_words(cell: Mapping[str, Any]) -> str:
    """A cell of a study for people, such as `method darts, seed 0`."""
    return ", ".join(f"{name} {value}" for name, value in cell.items())


def written(
    results: Results, tables: Mapping[str, str], figures: Mapping[str, Callable[[], Any]], folder: Path
) -> list[Path]:
    """Writes the tables and figures of results: `STUDY-NAME.md` and `STUDY-NAME.svg`.

    Returns:
      The files.
    """
    from jdarts.report.drawing import save_figure

    paths = []
    for name, table in tables.items():
        paths.append(folder / f"{results.study}-{name}.md")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        replace_text(paths[-1], f"{table}\n\n{results.words()}\n")
    for name, figure in figures.items():
        paths.append(folder / f"{results.study}-{name}.svg")
        save_figure(figure, paths[-1])
    return paths


def _rounded(value: Any) -> Any:
    """JSON data with numbers of six digits; those that are not finite are null."""
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
