"""What a pipeline is told: how many runs of which settings."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jdarts.errors import InputError
from jdarts.runs.devices import Parallel, check_wrapper
from jdarts.runs.settings import (
    RUN_BOUNDS,
    SEED,
    WITHIN_ONE,
    Bounds,
    Folder,
    check_dataset_name,
    check_settings,
    folder_name,
    option,
)
from jdarts.search import SearchConfig
from jdarts.train import TrainConfig

Baseline = Literal["none", "random"]

#: The paper compares the best of 4 searches with the best of 24 random cells, at the same cost (table 1).
RANDOM_PER_SEARCH = 6


@contextlib.contextmanager
def options_of(part: str) -> Iterator[None]:
    """Names options in messages as the pipeline's command line has them: `--search.epochs` for `--epochs`."""
    config = {"search": SearchConfig, "train": TrainConfig}[part]
    own = {option(field.name)[2:] for field in dataclasses.fields(config)} - {option(name)[2:] for name in _SHARED}

    def named(match: re.Match[str]) -> str:
        return f"--{part}.{match[1]}" if match[1].removeprefix("no-") in own else match[0]

    try:
        yield
    except InputError as error:
        raise InputError(re.sub(r"(?<!\S)--([a-z][a-z-]*)", named, str(error))) from error


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """Settings of the paper's protocol: several searches, the best cell chosen, trained in full (section 3).

    Each search's cells are trained briefly and validated on images that this training has not seen. The cells with the
    best validation accuracy are trained in full, several times, and tested. The defaults are the paper's for CIFAR-10.

    Attributes:
      dataset: the images, of searches and trainings.
      data_dir: where prepared images lie (default: TFDS_DATA_DIR, or ~/tensorflow_datasets).
      run_dir: folder of all runs; a folder with an interrupted pipeline is gone on with
        (default: runs/pipeline-DATASET-seedSEED).
      searches: number of searches, which differ in their seeds.
      select_epochs: epochs of the brief trainings that choose among cells.
      select_fraction: share of the training images that validate the brief trainings.
      repeats: full trainings of the chosen cells, which differ in their seeds.
      baseline: random adds random search: cells drawn from the same space, chosen and trained in the same way. It may be
        added to a pipeline that has finished.
      random_cells: cells that it draws (default: 6 for each search, which cost the same in the paper).
      seed: seed of the first search, the first full training and the brief trainings.
      devices: devices that share each batch of every run. The result does not depend on their number, up to rounding, unless
        batch statistics are per_device.
      parallel: how steps are spread over several devices: jax.pmap, or shard_map on a mesh. jit is for one.
      search: settings of the searches.
      train: settings of the trainings.
    """

    dataset: str = "cifar10"
    data_dir: Annotated[Path | None, Folder] = None
    run_dir: Annotated[Path | None, Folder] = None
    searches: int = 4
    select_epochs: int = 100
    select_fraction: float = 0.1
    repeats: int = 10
    baseline: Baseline = "none"
    random_cells: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    seed: int = 0
    devices: int = 1
    parallel: Parallel = "shard"
    search: SearchConfig = dataclasses.field(default_factory=SearchConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)

    def check(self) -> None:
        """Checks every value that can be checked without the data.

        Raises:
          InputError: a value out of its range, or one that belongs to the pipeline and was given to a part of it.
        """
        check_settings(self, _BOUNDS)
        check_dataset_name(self.dataset)
        check_wrapper(self)
        runs = max(self.searches, self.repeats, self.num_random_cells)
        if self.seed + runs > 2**32:
            raise InputError(f"--seed is {self.seed}; give a number below {2**32 - runs + 1}")
        for part, taken in _TAKEN.items():
            for name, instead in taken.items():
                default = next(f.default for f in dataclasses.fields(getattr(self, part)) if f.name == name)
                given = getattr(getattr(self, part), name)
                if given not in (default, getattr(self, name, default)):
                    raise InputError(f"{option(f'{part}.{name}')} has no effect within a pipeline; {instead}")
        with options_of("search"):
            self.search_config(0).check()
        with options_of("train"):
            self.brief_config(self.train.genotype, Path()).check()
            self.full_config(self.train.genotype, 0, Path()).check()

    @property
    def folder(self) -> Path:
        """The folder of all runs. The same settings give the same folder."""
        return self.run_dir or Path("runs") / f"pipeline-{folder_name(self.dataset)}-seed{self.seed}"

    @property
    def num_random_cells(self) -> int:
        """Cells that random search draws; 0 without that baseline."""
        if self.baseline == "none":
            return 0
        return RANDOM_PER_SEARCH * self.searches if self.random_cells is None else self.random_cells

    def search_config(self, number: int) -> SearchConfig:
        """The settings of a search, counted from 0."""
        seed = self.seed + number
        return dataclasses.replace(self.search, **self._common(self.folder / "searches" / f"seed{seed}", seed))

    def brief_config(self, genotype: str, folder: Path) -> TrainConfig:
        """The settings of the training that validates some cells."""
        return dataclasses.replace(
            self.train,
            genotype=genotype,
            epochs=self.select_epochs,
            validation_fraction=self.select_fraction,
            test=False,
            **self._common(folder, self.seed),
        )

    def full_config(self, genotype: str, number: int, folder: Path) -> TrainConfig:
        """The settings of a full training of the chosen cells, counted from 0."""
        return dataclasses.replace(self.train, genotype=genotype, **self._common(folder, self.seed + number))

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON data; those of the parts under names such as `train.epochs`."""
        content = {
            name: getattr(self, name)
            for name in ("dataset", "searches", "select_epochs", "select_fraction", "repeats", "seed")
        }
        for part, taken in _TAKEN.items():
            settings = getattr(self, part).to_json()
            content |= {f"{part}.{name}": value for name, value in settings.items() if name not in taken}
        return content

    def _common(self, folder: Path, seed: int) -> dict[str, Any]:
        shared = {name: getattr(self, name) for name in _SHARED}
        return shared | {"run_dir": folder, "seed": seed}


_BOUNDS = {
    "searches": Bounds(1, 10_000),
    "select_epochs": RUN_BOUNDS["epochs"],
    "select_fraction": WITHIN_ONE,
    "repeats": Bounds(1, 10_000),
    "random_cells": Bounds(1, 100_000),
    "seed": SEED,
    "devices": RUN_BOUNDS["devices"],
}
_SHARED = {
    "dataset": "give --dataset",
    "data_dir": "give --data-dir",
    "run_dir": "give --run-dir",
    "seed": "give --seed",
    "devices": "give --devices",
    "parallel": "give --parallel",
}
#: Settings of the parts that the pipeline fills in itself, with what to give in their place.
_TAKEN = {
    "search": _SHARED
    | {
        "seeds": "--searches says how many there are, and --seed is that of the first",
        **dict.fromkeys(
            ("cluster", "coordinator", "num_processes", "process_id"),
            "it runs in one process, with any number of --devices",
        ),
    },
    "train": _SHARED
    | {
        "genotype": "the searches find the cells",
        "test": "each full training is tested, once",
    },
}
