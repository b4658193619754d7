"""Settings of a measurement, and the sizes and subjects that it is made of."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jdarts.errors import InputError
from jdarts.files.places import check_output

from .setup import SIDES, STEPS, Layout, Size

Axis = Literal["batch", "channels", "cells", "nodes"]
Part = Literal["steps", "compile", "memory"]

COMPARED = tuple(
    f"{side}/{step}" for side in SIDES for step in STEPS if side == "jdarts" or not step.startswith("exact")
)
GROWN = ("jdarts/weight", "jdarts/finite_difference", "jdarts/exact", "pytorch/finite_difference")
REMEMBERED = ("jdarts/finite_difference", "jdarts/exact", "jdarts/exact_remat", "pytorch/finite_difference")
GROWTH: dict[Axis, tuple[int, ...]] = {
    "batch": (8, 16, 32),
    "channels": (8, 16, 32),
    "cells": (4, 8, 14),
    "nodes": (2, 3, 4),
}
QUICK_GROWTH: dict[Axis, tuple[int, ...]] = {"batch": (2, 4), "channels": (2, 4), "cells": (1, 2), "nodes": (1, 2)}
QUICK = {"channels": 4, "cells": 2, "nodes": 2, "batch": 4, "image_size": 8, "memory_batch": 8, "rounds": 3}


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """Settings of the measurement.

    Attributes:
      parts: Tables of the comparison at one size; none where no name follows.
      growth: Further tables, of how times grow with the batch, the channels, the cells or the nodes.
      only: Subjects to measure, such as jdarts/exact or pytorch; all where it is not given.
      channels: Channels of the first cells.
      cells: Number of cells.
      nodes: Nodes of a cell.
      batch: Images of each batch.
      image_size: Height and width of the images.
      memory_batch: Images of each batch where memory is measured.
      rounds: Steps of every subject.
      growth_rounds: The same for the growth tables.
      layout: PyTorch's memory format; the faster one where it is not given.
      threads: PyTorch's threads; the fastest number up to that of the cores where it is not given.
      quick: A tiny network in place of all sizes, to see that everything works.
      json: A file for every single time.
      write: Put the tables into benchmarks/README.md.
    """

    parts: tuple[Part, ...] = ("steps", "compile", "memory")
    growth: tuple[Axis, ...] = ()
    only: tuple[str, ...] = ()
    channels: int = 16
    cells: int = 8
    nodes: int = 4
    batch: int = 16
    image_size: int = 32
    memory_batch: int = 64
    rounds: int = 7
    growth_rounds: int = 3
    layout: Layout | None = None
    threads: int | None = None
    quick: bool = False
    json: Path | None = None
    write: bool = False

    def check(self) -> None:
        """Refuses what cannot be measured.

        Raises:
          InputError: a number below 1, an unknown subject, or no place for the file.
        """
        for name in (*QUICK, "growth_rounds", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} is {value}; give 1 or more")
        for name in self.only:
            if name not in (*COMPARED, *SIDES):
                raise InputError(f"--only {name}: no such subject; known are {', '.join((*SIDES, *COMPARED))}")
        if self.json is not None:
            check_output("--json", self.json)

    @property
    def size(self) -> Size:
        """The size of the comparison."""
        return Size(self.channels, self.cells, self.nodes, self.batch, self.image_size)

    @property
    def needs_torch(self) -> bool:
        """Whether a subject of PyTorch is measured."""
        return any(side == "pytorch" for side, _ in self.chosen(COMPARED))

    def chosen(self, names: Sequence[str]) -> list[tuple[Any, Any]]:
        """Side and step of each name that `only` leaves."""
        pairs = [tuple(name.split("/")) for name in names]
        return [
            (side, step) for side, step in pairs if not self.only or side in self.only or f"{side}/{step}" in self.only
        ]

    @property
    def sections(self) -> list[str]:
        """Names of all tables that the run can have."""
        return ["settings", *self.parts, *(f"growth {axis}" for axis in self.growth)]

    def sized(self) -> "BenchmarkConfig":
        """The same with the tiny network's sizes, where `quick` asks for them."""
        return dataclasses.replace(self, **QUICK) if self.quick else self
