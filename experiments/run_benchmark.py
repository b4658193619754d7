"""The nine benchmarks of confopt (AutoML 2025): three supernets, each with three sets of operations.

A benchmark searches three times, keeps the search whose supernet has the lowest validation loss, and trains the network of its
cells, of the supernet's size, from scratch under nine settings. Its result is the mean and the best test accuracy of the nine. A
killed command continues where it stopped. It is made for GPUs: nobody has run a benchmark to its end with this code.

The network of `single_cell` is one cell of eight nodes, the last four of which are its output. By its place it is a reduction
cell, in confopt's code (`layers // 3` is 0 for one layer) as here, and the genotype has no normal cell. Methods that
read normal cells (`lambda_darts`, `darts_plus`) are refused there.

Data:     jdarts data prepare cifar10
Command:  python experiments/run_benchmark.py bench:wide-regular --method pc_darts
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from study import images
from study.method_searches import epochs_of
from study.rows import Table
from study.statistics import mean_and_spread
from study.study import Cell, Row

from jdarts.command import run_command
from jdarts.data import ImageDataset
from jdarts.files.atomic import replace_text
from jdarts.methods.presets import DARTS, preset
from jdarts.report.formatting import markdown_table
from jdarts.runs.bounds import EPOCHS, Bounds
from jdarts.runs.command import keep_compiled_programs
from jdarts.runs.programs import CompiledPrograms
from jdarts.runs.settings import Folder, Settings
from jdarts.runs.stage_options import StageOptions
from jdarts.search import SearchConfig, SearchResult, search
from jdarts.space import DARTS_PRIMITIVES
from jdarts.train import TrainConfig, train
from jdarts.xla.allocator import keep_freed_memory

#: Channels of the first cells, cells, nodes of a cell, and what else a search of such a network needs.
SUPERNETS: Mapping[str, Mapping[str, Any]] = {
    "wide": {"channels": 18, "cells": 4, "nodes": 4},
    "deep": {"channels": 7, "cells": 18, "nodes": 4},
    "single_cell": {"channels": 26, "cells": 1, "nodes": 8, "output_nodes": 4, "cell_kinds": "reduce"},
}
#: Settings of a search for each set of operations.
OPERATIONS: Mapping[str, Mapping[str, Any]] = {
    "regular": {},
    "no_skip": {"operations": tuple(name for name in DARTS_PRIMITIVES if name != "skip_connect")},
    "all_skip": {"auxiliary_skip": "skip"},
}
#: Learning rates and weight decays of the trainings.
TRAININGS = tuple(itertools.product((0.01, 0.025, 0.1), (1e-4, 3e-4, 1e-3)))

Name = Literal[
    "bench:wide-regular",
    "bench:wide-no_skip",
    "bench:wide-all_skip",
    "bench:deep-regular",
    "bench:deep-no_skip",
    "bench:deep-all_skip",
    "bench:single_cell-regular",
    "bench:single_cell-no_skip",
    "bench:single_cell-all_skip",
]


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig(Settings):
    """Runs one benchmark.

    Attributes:
      name: the benchmark.
      method: of the searches, NAME or NAME:HYPERGRADIENT; its settings are those of its preset, in one stage.
      seeds: of the searches.
      partial_channels: 1 / K of the channels has operations, for methods whose K does not divide the supernet's (default: that of
        the method's preset).
      search_epochs: of a search (default: those of the method's preset).
      train_epochs: of a training.
      train_batch_size: images of a batch of a training.
      images: training images, and at most as many test images (default: all).
      image_size: height and width to which the images are averaged (default: their own).
      data_dir: folder of prepared images (default: TFDS_DATA_DIR, or ~/tensorflow_datasets).
      out: folder of the runs, the rows and the table.
    """

    name: Annotated[Name, tyro.conf.Positional] = "bench:wide-regular"
    method: str = DARTS
    seeds: str = "0-2"
    partial_channels: Annotated[int | None, Bounds(1, 1024)] = None
    search_epochs: Annotated[int | None, EPOCHS] = None
    train_epochs: Annotated[int, EPOCHS] = 300
    train_batch_size: Annotated[int, Bounds(2, 1_000_000)] = 512
    images: Annotated[int | None, Bounds(8, 1_000_000)] = None
    image_size: Annotated[int | None, Bounds(4, 1024)] = None
    data_dir: Annotated[Path | None, Folder] = None
    out: Path = Path("runs/benchmarks")

    @property
    def folder(self) -> Path:
        """The folder of this benchmark with this method."""
        return self.out / self.name.removeprefix("bench:") / self.method.replace(":", "-")

    @property
    def supernet(self) -> Mapping[str, Any]:
        """Channels, cells and nodes, and what else a search of such a network needs."""
        return SUPERNETS[self.name.removeprefix("bench:").partition("-")[0]]

    def check(self) -> None:
        """Checks every value that can be checked without the images.

        Raises:
          InputError: a value out of its range, an unknown method, or one that the set of operations does not fit.
        """
        super().check()
        for config in self.search_configs():
            config.check()

    def search_configs(self) -> tuple[SearchConfig, ...]:
        """The settings of the searches.

        Raises:
          InputError: an unknown method or hypergradient.
        """
        method, _, hypergradient = self.method.partition(":")
        usual = preset(method)
        changes: dict[str, Any] = dict(OPERATIONS[self.name.partition("-")[2]])
        if "operations" in changes:
            changes["operations"] = tuple(
                name for name in usual.get("operations", DARTS_PRIMITIVES) if name in changes["operations"]
            )
        if hypergradient:
            changes["hypergradient"] = hypergradient
        given = {"partial_channels": self.partial_channels, "epochs": self.search_epochs}
        changes |= {name: value for name, value in given.items() if value is not None}
        config = SearchConfig(
            method=method,
            dataset="cifar10",
            seeds=self.seeds,
            run_dir=self.folder / "search",
            staging=StageOptions(),
            **self.supernet,
            **changes,
        )
        return config.of_each_seed()

    def train_config(self, genotype: str, learning_rate: float, weight_decay: float, run_dir: Path) -> TrainConfig:
        """The settings of a training."""
        return TrainConfig(
            genotype=genotype,
            dataset="cifar10",
            run_dir=run_dir,
            epochs=self.train_epochs,
            batch_size=self.train_batch_size,
            channels=self.supernet["channels"],
            cells=self.supernet["cells"],
            auxiliary=False,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )


def searched(config: BenchmarkConfig, dataset: ImageDataset) -> tuple[int, SearchResult]:
    """Searches with every seed: the seed with the lowest validation loss of the supernet, the first among equals."""
    programs, found = CompiledPrograms(), []
    for each in config.search_configs():
        result = search(each, dataset=dataset, programs=programs)
        found.append((float(epochs_of(result.folder)[-1]["evaluation_loss"]), each.run.seed, result))
    _, seed, result = min(found, key=lambda one: one[0])
    return seed, result


def result_table(rows: Sequence[Row]) -> str:
    """The nine trainings, and their mean and best test accuracy."""
    accuracies = [100 * row["test"] for row in rows]
    lines = [[f"{row['learning_rate']:g}", f"{row['weight_decay']:g}", f"{100 * row['test']:.2f}"] for row in rows]
    lines.append(["mean", "", mean_and_spread(accuracies, 2)])
    lines.append(["best", "", f"{max(accuracies):.2f}"])
    return markdown_table(["learning rate", "weight decay", "test accuracy, %"], lines)


def run(config: BenchmarkConfig, dataset: ImageDataset) -> list[Row]:
    """Runs the benchmark: the rows of its trainings. What is finished is not repeated."""
    seed, result = searched(config, dataset)
    print(f"\nsearch {seed} has the lowest validation loss: {result.genotype}\n")
    settings = config.train_config(str(result.genotype), 0.1, 1e-4, Path()).to_json()
    kept, programs = Table(config.folder / "trainings", {"settings": settings}), CompiledPrograms()

    def measure(cell: Cell, folder: Path) -> list[Row]:
        each = config.train_config(str(result.genotype), cell["learning_rate"], cell["weight_decay"], folder / "run")
        trained = train(each, dataset=dataset, programs=programs)
        return [{"search": seed, "weights": trained.weights, "test": trained.test_accuracy}]

    rows = []
    for rate, decay in TRAININGS:
        cell = {"learning_rate": rate, "weight_decay": decay}
        rows += (kept.finished(cell) or kept.measure(cell, measure)).rows
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line, runs the benchmark, prints and writes its table."""
    config = tyro.cli(BenchmarkConfig, args=arguments, prog="python experiments/run_benchmark.py", description=__doc__)
    config.check()
    keep_freed_memory()
    keep_compiled_programs()
    dataset = images.smaller(images.load("cifar10", config.data_dir), images=config.images, size=config.image_size)
    text = result_table(run(config, dataset))
    replace_text(config.folder / "table.md", f"{text}\n")
    print(f"\n{text}")


if __name__ == "__main__":
    run_command(main)
