"""Study 4: are found cells better than random cells of equal size, and than DARTS_V2?

The whole chain: searches with several seeds, a brief training of each found cell that selects one of them, full trainings and one
test of each. Beside them random cells, drawn uniformly from those of a found cell's size, and the cells of DARTS_V2; all are
trained in the same way.

Command:  make study ARGS="--only found"          (make study-full for the sizes of CONFIG)
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO

from jdarts.budget.counting import Target, counted_costs
from jdarts.budget.sampling import sample_of_size
from jdarts.data import ImageDataset
from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.runs.bounds import BELOW_ONE, CELLS, CHANNELS, EPOCHS, NOT_NEGATIVE, POSITIVE, SEED, Bounds
from jdarts.runs.programs import CompiledPrograms
from jdarts.runs.settings import Settings
from jdarts.search import SearchConfig, SearchResult, search
from jdarts.train import TrainConfig, TrainResult, train
from jdarts.zoo import DARTS_V2

from . import images
from .found_tables import FOUND, PUBLISHED, RANDOM, figures, tables
from .method_searches import MethodSize
from .study import Cell, Measure, Row, Study

#: Random cells have the size of a found cell up to one part in so many.
_SAME_SIZE = 50
_SEARCH = MethodSize(cells=4, nodes=4, epochs=20, alpha_rate_factor=10.0)


@dataclasses.dataclass(frozen=True)
class FoundConfig(Settings):
    """The settings of the study.

    Attributes:
      search: size of the searches.
      method: of the searches, NAME or NAME:HYPERGRADIENT.
      seeds: of the searches.
      random: number of random cells, each of the size of one of the found cells in turn.
      repeats: trainings of DARTS_V2.
      images: training images, and at most as many test images.
      image_size: height and width to which the images are averaged.
      train_channels: channels of the first cells of the trained networks.
      train_cells: their cells.
      train_epochs: of a full training.
      brief_epochs: of a training that selects.
      held_out: share of the training images by which the brief trainings select.
      train_batch_size: of the trainings.
      train_learning_rate: of the trainings.
      drop_path: probability of a dropped path at the end of a full training.
    """

    search: MethodSize = _SEARCH
    method: str = "darts:exact"
    seeds: tuple[Annotated[int, SEED], ...] = (0, 1, 2)
    random: Annotated[int, Bounds(2, 10_000)] = 10
    repeats: Annotated[int, Bounds(1, 1000)] = 3
    images: Annotated[int, Bounds(8, 1_000_000)] = 4096
    image_size: Annotated[int, Bounds(4, 1024)] = 8
    train_channels: Annotated[int, CHANNELS] = 12
    train_cells: Annotated[int, CELLS] = 6
    train_epochs: Annotated[int, EPOCHS] = 30
    brief_epochs: Annotated[int, EPOCHS] = 8
    held_out: Annotated[float, BELOW_ONE] = 0.25
    train_batch_size: Annotated[int, Bounds(2, 1_000_000)] = 96
    train_learning_rate: Annotated[float, POSITIVE] = 0.05
    drop_path: Annotated[float, NOT_NEGATIVE] = 0.1

    def check(self) -> None:
        """Checks the parts that fit together.

        Raises:
          InputError: fewer than two searches, nothing held out, or a method that there is not.
        """
        super().check()
        if len(self.seeds) < 2:
            raise InputError(f"--seeds is {self.seeds}; give two or more, for a spread")
        if not self.held_out > 0:
            raise InputError(f"--held-out is {self.held_out}; give a share above 0, by which a cell is selected")
        self.search_config(self.seeds[0], Path()).check()

    def search_config(self, seed: int, run_dir: Path) -> SearchConfig:
        """The settings of a search."""
        (config,) = self.search.search_config(self.method, seeds=str(seed), run_dir=run_dir).of_each_seed()
        return dataclasses.replace(config, run_dir=run_dir)

    def train_config(self, cells: Genotype, seed: int, run_dir: Path, *, brief: bool = False) -> TrainConfig:
        """The settings of a training: a brief one holds images out and tests nothing."""
        return TrainConfig(
            genotype=str(cells),
            dataset="cifar10",
            run_dir=run_dir,
            seed=seed,
            epochs=self.brief_epochs if brief else self.train_epochs,
            channels=self.train_channels,
            cells=self.train_cells,
            auxiliary=False,
            drop_path=0.0 if brief else self.drop_path,
            cutout=0,
            batch_size=self.train_batch_size,
            learning_rate=self.train_learning_rate,
            validation_fraction=self.held_out if brief else 0.0,
            test=not brief,
        )


CONFIG = FoundConfig()

#: The share of `make study`.
QUICK = FoundConfig(
    search=MethodSize(channels=4, cells=3, nodes=2, epochs=10, batch_size=32),
    random=6,
    images=1024,
    train_channels=8,
    train_cells=3,
    train_epochs=12,
    brief_epochs=3,
    train_batch_size=32,
)


def cells(config: FoundConfig) -> list[Cell]:
    """The found cells, then random ones in turn with trainings of DARTS_V2, so that a part of the table can be compared."""
    found = [{"cell": FOUND, "number": number} for number in range(len(config.seeds))]
    random = [{"cell": RANDOM, "number": number} for number in range(config.random)]
    published = [{"cell": PUBLISHED, "number": number} for number in range(config.repeats)]
    beside = [each for pair in zip(published, random, strict=False) for each in pair]
    return [*found, *beside, *(each for each in random + published if each not in beside)]


def prepare(config: FoundConfig, dataset: ImageDataset) -> Measure:
    """The function that finds or draws a cell, and trains it."""
    small = images.smaller(dataset, images=config.images, size=config.image_size)
    programs = CompiledPrograms()

    def measure(cell: Cell, folder: Path) -> list[Row]:
        # What the runs print is in the cell's folder.
        with (folder / "output.txt").open("a", encoding="utf-8") as stream:
            chain = _Chain(config, small, folder, stream, programs)
            return [dict(chain.row(cell["cell"], cell["number"]))]

    return measure


@dataclasses.dataclass(frozen=True)
class _Chain:
    """The runs of one row.

    Attributes:
      config: the settings.
      images: that they read.
      folder: of the row; searches are beside it, since random cells need their sizes.
      stream: where the runs print.
      programs: compiled functions that they share.
    """

    config: FoundConfig
    images: ImageDataset
    folder: Path
    stream: TextIO
    programs: CompiledPrograms

    def row(self, kind: str, number: int) -> Iterator[tuple[str, Any]]:
        """The entries of the row."""
        genotype = DARTS_V2
        if kind == FOUND:
            found = self.searched(number)
            genotype = found.genotype
            yield "supernet", found.valid_accuracy
            yield "brief", self.trained(genotype, number, brief=True).valid_accuracy
        elif kind == RANDOM:
            genotype = self.drawn(number)
        result = self.trained(genotype, number)
        yield "genotype", str(genotype)
        yield "weights", result.weights
        yield "test", result.test_accuracy
        yield "train", result.train_accuracy

    def searched(self, number: int) -> SearchResult:
        """The search of a number; one that has ended is only read."""
        seed = self.config.seeds[number]
        settings = json.dumps(self.config.search_config(seed, Path()).to_json(), sort_keys=True)
        identity = hashlib.sha256(f"{settings}{self.images.fingerprint}".encode()).hexdigest()[:12]
        config = self.config.search_config(seed, self.folder.parent / f"search-{seed}-{identity}")
        return search(config, dataset=self.images, stream=self.stream)

    def drawn(self, number: int) -> Genotype:
        """A random cell of the size of a found one."""
        found = self.searched(number % len(self.config.seeds)).genotype
        space = self.config.search_config(self.config.seeds[0], Path()).search_space
        target = Target(
            channels=self.config.train_channels,
            cells=self.config.train_cells,
            classes=self.images.num_classes,
            image_size=self.images.image_shape[0],
            image_channels=self.images.image_shape[-1],
            network="cifar",
        )
        cost = counted_costs(space, target)["weights"]
        size = cost.of(found, space)
        return sample_of_size(cost, space, number, least=size - size // _SAME_SIZE, most=size + size // _SAME_SIZE)

    def trained(self, genotype: Genotype, seed: int, *, brief: bool = False) -> TrainResult:
        """A training; one that has ended is only read."""
        config = self.config.train_config(genotype, seed, self.folder / ("brief" if brief else "full"), brief=brief)
        return train(config, dataset=self.images, stream=self.stream, programs=self.programs)


STUDY = Study(
    "found",
    "Are found cells better than random cells of equal size, and than DARTS_V2?",
    CONFIG,
    QUICK,
    cells,
    prepare,
    tables,
    figures,
)
