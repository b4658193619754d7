"""What a training on text is told: one frozen dataclass, which is also the command line."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from jdarts import checkpoint, zoo
from jdarts.derive import genotype_of
from jdarts.errors import InputError
from jdarts.genotype import RecurrentGenotype, parse_genotype
from jdarts.language.settings import LanguageConfig
from jdarts.runs.settings import WITHOUT_EFFECT, as_json, check_at_least, genotype_label


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
        check_at_least(self, {"patience": 1, "rollbacks": 0, "test_batch_size": 1})
        self.cell  # noqa: B018

    @property
    def cell(self) -> RecurrentGenotype:
        """The genotype that is meant."""
        return find_recurrent_genotype(self.genotype)

    @property
    def folder(self) -> Path:
        """The run's folder. The same settings give the same folder, so that the same command goes on with its run."""
        label = genotype_label(self.genotype, zoo.RECURRENT_CELLS)
        return self.run_dir or Path("runs") / f"train-{self.dataset}-{label}-seed{self.seed}"

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON data; the genotype in its text form, wherever it came from."""
        return as_json(self, without=WITHOUT_EFFECT) | {"genotype": str(self.cell)}


def find_recurrent_genotype(text: str) -> RecurrentGenotype:
    """The genotype of a published cell's name, of a run's folder, of a file, or of the text form.

    Raises:
      InputError: there is none.
    """
    if text in zoo.RECURRENT_CELLS:
        return zoo.RECURRENT_CELLS[text]
    if text.lstrip().startswith(("{", "Genotype", "RecurrentGenotype")):
        return parse_genotype(text, RecurrentGenotype)
    path = Path(text)
    if path.is_dir() and not (path / "genotype.json").is_file():
        # A search that still runs.
        return parse_genotype(genotype_of(checkpoint.find(path, []).record).to_json(), RecurrentGenotype)
    file = path / "genotype.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"--genotype is {text}, which is neither a published cell ({', '.join(zoo.RECURRENT_CELLS)}) nor a search's "
            "folder nor a file; give one of these, or the text form"
        )
    try:
        return parse_genotype(file.read_text(encoding="utf-8"), RecurrentGenotype)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the genotype {file}: {error}; give another file") from error
