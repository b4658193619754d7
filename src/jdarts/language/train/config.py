"""The settings of a training on text, which are also its command line."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from jdarts import zoo
from jdarts.genotype import RecurrentGenotype
from jdarts.language.options import COLUMNS, Dropout
from jdarts.language.settings import LanguageConfig
from jdarts.resolve import find_genotype
from jdarts.runs.bounds import WIDTH, Bounds
from jdarts.runs.names import folder_name, genotype_label
from jdarts.runs.options import Loop, WeightOptimizer


@dataclasses.dataclass(frozen=True, init=False)
class LanguageTrainConfig(LanguageConfig):
    """Settings of a training. The defaults are the paper's for Penn Treebank (section 3.2.2, reference code).

    A run's folder, where --run-dir names none, is runs/train-DATASET-GENOTYPE-seedSEED.

    Attributes:
      genotype: the cell to train: the name of a published cell (DARTS_V1, DARTS_V2, ENAS), a search's run folder, a
        file, or the text form.
      patience: epochs without a new best one after which averaging of the weights starts (NT-ASGD's trigger).
      rollbacks: how often a training may return to its best weights after a value that is not finite, before it stops.
      test_batch_size: number of parallel columns of the validation and the test text at the end.
      test: test the network, once, at the end.
    """

    genotype: Annotated[str, tyro.conf.arg(metavar="GENOTYPE")] = "DARTS_V2"
    width: Annotated[int, WIDTH] = 850
    patience: Annotated[int, Bounds(1, 1_000_000)] = 5
    rollbacks: Annotated[int, Bounds(0, 1_000_000)] = 10
    test_batch_size: Annotated[int, COLUMNS] = 1
    test: bool = True
    loop: Loop = Loop(epochs=8000, keep_checkpoints=2)
    weights: WeightOptimizer = WeightOptimizer(momentum=0.0, weight_decay=8e-7, clip=0.25)
    dropped: Dropout = Dropout(dropoute=0.1)

    def check(self) -> None:
        """As the base class; also refuses a genotype that cannot be found.

        Raises:
          InputError: a value out of its range.
        """
        super().check()
        self.cell  # noqa: B018

    @property
    def cell(self) -> RecurrentGenotype:
        """The genotype of the setting."""
        return find_genotype(self.genotype, RecurrentGenotype)

    @property
    def folder(self) -> Path:
        """The run's folder. The same settings give the same folder, so the same command resumes its run."""
        label = genotype_label(self.genotype, zoo.RECURRENT_CELLS)
        return self.run.folder("train", folder_name(self.text.dataset), label)

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON data; the genotype is always in its text form."""
        return super().to_json() | {"genotype": str(self.cell)}
