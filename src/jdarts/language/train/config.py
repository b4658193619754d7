"""What a training on text is told: one frozen dataclass, which is also the command line."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from jdarts import zoo
from jdarts.genotype import RecurrentGenotype
from jdarts.language.settings import COLUMNS, LanguageConfig
from jdarts.resolve import find_genotype
from jdarts.runs.settings import WITHOUT_EFFECT, Bounds, as_json, folder_name, genotype_label


@dataclasses.dataclass(frozen=True)
class LanguageTrainConfig(LanguageConfig):
    """Settings of a training. The defaults are the paper's for Penn Treebank (section 3.2.2, reference code).

    Attributes:
      genotype: the cell to train: the name of a published cell (DARTS_V1, DARTS_V2, ENAS), a search's run folder, a
        file, or the text form.
      patience: epochs of which none is the best before weights are averaged from then on (NT-ASGD's trigger).
      rollbacks: how often a training may go back to its best weights after something was not finite, before it stops.
      test_batch_size: columns in which the validation and the test text are evaluated at the end.
      test: test the network, once, at the end.
    """

    epochs: int = 8000
    width: int = 850
    weight_decay: float = 8e-7
    dropoute: float = 0.1
    keep_checkpoints: int = 2
    genotype: Annotated[str, tyro.conf.arg(metavar="GENOTYPE")] = "DARTS_V2"
    patience: int = 5
    rollbacks: int = 10
    test_batch_size: int = 1
    test: bool = True

    def check(self) -> None:
        """As the base class, and a genotype that cannot be found.

        Raises:
          InputError: a value out of its range.
        """
        super().check()
        self.cell  # noqa: B018

    def bounds(self) -> Mapping[str, Bounds]:
        """Those of the numbers that searches do not have."""
        return _BOUNDS

    @property
    def cell(self) -> RecurrentGenotype:
        """The genotype that is meant."""
        return find_genotype(self.genotype, RecurrentGenotype)

    @property
    def folder(self) -> Path:
        """The run's folder. The same settings give the same folder, so that the same command goes on with its run."""
        label = genotype_label(self.genotype, zoo.RECURRENT_CELLS)
        return self.run_dir or Path("runs") / f"train-{folder_name(self.dataset)}-{label}-seed{self.seed}"

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON data; the genotype in its text form, wherever it came from."""
        return as_json(self, without=WITHOUT_EFFECT) | {"genotype": str(self.cell)}


_BOUNDS = {"patience": Bounds(1, 1_000_000), "rollbacks": Bounds(0, 1_000_000), "test_batch_size": COLUMNS}
