"""What a study is: a table of cells, a function that measures one, and the tables and figures of the results."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jdarts.data import ImageDataset
from jdarts.runs.settings import Settings

from .results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What one row of the table is about, such as `{"method": "darts", "seed": 0}`: JSON data.
Cell = Mapping[str, Any]
#: Measured numbers, as JSON data. The row in the results has the entries of its cell as well.
Row = Mapping[str, Any]
#: Measures one cell. The folder is the cell's own: runs that resume themselves belong there.
Measure = Callable[[Cell, Path], Sequence[Row]]


class Study(NamedTuple):
    """One study.

    Attributes:
      name: of its files, and on the command line.
      title: what it asks, in a few words.
      config: the settings of the full study, a dataclass; `check` has nothing against them.
      quick: those of the version that takes minutes.
      cells: the cells of the table, from the settings, in the order in which they are measured.
      prepare: from the settings and the images to the function that measures a cell. What all cells share, such as compiled
        programs, is made here, and only if a cell is left to measure.
      tables: markdown tables of the results, by name.
      figures: functions that draw the results, by name.
      check: looks for what must be installed, before any study is measured; raises `InputError`.
    """

    name: str
    title: str
    config: Settings
    quick: Settings
    cells: Callable[[Any], Sequence[Cell]]
    prepare: Callable[[Any, ImageDataset], Measure]
    tables: Callable[[Results], Mapping[str, str]]
    figures: Callable[[Results], Mapping[str, Callable[[], "Figure"]]]
    check: Callable[[], object] = lambda: None
