"""Study 3: do searches collapse to skip connections, which methods keep them from it, and do the guards see it in time?

Searches in RobustDARTS's spaces S1 to S4 with several methods, and plain DARTS with several weight decays. After every epoch: the
skip connections of the derived normal cell, how far its operations lead, and the largest eigenvalue of the alphas' Hessian.
Guards that only watched are asked afterwards when they would have stopped each search.

Command:  make study ARGS="--only collapse"          (make study-full for the sizes of CONFIG)
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from jdarts.data import ImageDataset
from jdarts.errors import InputError
from jdarts.methods.stopping import EIGENVALUE
from jdarts.runs.bounds import SEED, Bounds
from jdarts.runs.programs import CompiledPrograms
from jdarts.runs.settings import Settings
from jdarts.search import SearchConfig, search
from jdarts.search.seeds import search_seeds

from . import images
from .collapse_tables import figures, first_result, tables
from .method_searches import MethodSize, epochs_of
from .study import Cell, Measure, Row, Study

PLAIN = "darts"
#: Rules that stop a search by the eigenvalue, which need their epochs scaled.
_STOPPING = {"darts_es": "eigenvalue", "darts_ada": "adaptive_decay"}
#: What an epoch's row keeps: names of the run's numbers, by shorter names.
_KEPT = {
    "skips": "guards_skips_normal",
    "weightless": "guards_weightless_normal",
    "lead": "guards_lead_normal",
    "eigenvalue": EIGENVALUE.replace("/", "_"),
    "accuracy": "evaluation_accuracy",
}


_SIZE = MethodSize(cells=4, nodes=4, epochs=30, alpha_rate_factor=10.0)


@dataclasses.dataclass(frozen=True)
class CollapseConfig(Settings):
    """The settings of the study.

    Attributes:
      size: of the searches. Cells have the four nodes of the spaces.
      spaces: search spaces by name.
      methods: methods, each NAME or NAME:HYPERGRADIENT, with their presets' weight decay.
      weight_decays: of plain DARTS, beside the methods.
      hypergradient: of plain DARTS.
      seeds: of every search.
      images: training images, half for the weights and half for the alphas.
      image_size: height and width to which the images are averaged.
    """

    size: MethodSize = _SIZE
    spaces: tuple[str, ...] = ("s2", "s3", "s1", "s4")
    methods: tuple[str, ...] = (PLAIN, "darts_es", "darts_ada", "pc_darts", "sdarts_rs", "darts_minus", "drnas")
    weight_decays: tuple[float, ...] = (9e-4, 27e-4, 81e-4, 243e-4)
    hypergradient: str = "finite_difference"
    seeds: tuple[Annotated[int, SEED], ...] = (0, 1, 2)
    images: Annotated[int, Bounds(4, 1_000_000)] = 2048
    image_size: Annotated[int, Bounds(4, 1024)] = 8

    def check(self) -> None:
        """Checks the parts that fit together.

        Raises:
          InputError: no seed, no space or no method, or a method that there is not.
        """
        super().check()
        for name in ("seeds", "spaces", "methods"):
            if not getattr(self, name):
                raise InputError(f"--{name} names none; give one or more")
        for cell in cells(self):
            self.search_config(cell, Path()).of_each_seed()[0].check()

    def search_config(self, cell: Cell, folder: Path) -> SearchConfig:
        """The settings of the searches of a cell of the table, in a folder."""
        method, decay = cell["method"], cell["weight_decay"]
        changes: dict[str, Any] = {} if decay is None else {"weight_decay": decay}
        if method in _STOPPING:
            changes["stop"] = f"{_STOPPING[method]}:every=1,first={first_result(self.size.epochs)}"
        changes["space"] = cell["space"]
        name = f"{PLAIN}:{self.hypergradient}" if method == PLAIN else method
        seeds = ",".join(map(str, self.seeds))
        return self.size.search_config(name, seeds=seeds, run_dir=folder / "run", eigenvalue_every=1, **changes)


CONFIG = CollapseConfig()

#: The share of `make study`.
QUICK = CollapseConfig(
    size=MethodSize(channels=4, cells=3, nodes=4, epochs=15, batch_size=32, alpha_rate_factor=20.0),
    spaces=("s2",),
    methods=(PLAIN, "darts_es", "sdarts_rs", "darts_minus"),
    weight_decays=(243e-4,),
    hypergradient="first_order",
    images=512,
)


def cells(config: CollapseConfig) -> list[Cell]:
    """Every method and weight decay in a space before the next space."""
    return [
        {"space": space, "method": method, "weight_decay": decay}
        for space in config.spaces
        for method, decay in (
            *((name, None) for name in config.methods),
            *((PLAIN, decay) for decay in config.weight_decays),
        )
    ]


def prepare(config: CollapseConfig, dataset: ImageDataset) -> Measure:
    """The function that searches with a method, all seeds at once unless a rule may end them."""
    small = images.smaller(dataset, images=config.images, size=config.image_size)

    def measure(cell: Cell, folder: Path) -> list[Row]:
        search_config = config.search_config(cell, folder)
        # What the searches print is in the cell's folder.
        with (folder / "output.txt").open("a", encoding="utf-8") as stream:
            given: Any = {"dataset": small, "stream": stream, "programs": CompiledPrograms()}
            if search_config.stop is None:
                results = search_seeds(search_config, **given)
            else:
                # Each may end after another epoch.
                results = [search(each, **given) for each in search_config.of_each_seed()]
        return [
            {"seed": seed, "genotype": str(result.genotype), **of_run(epochs_of(result.folder))}
            for seed, result in zip(config.seeds, results, strict=True)
        ]

    return measure


def of_run(epochs: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """What the epochs of a search saw."""
    return {name: [float(epoch[kept]) for epoch in epochs if kept in epoch] for name, kept in _KEPT.items()}


STUDY = Study(
    "collapse",
    "Do searches collapse to skip connections, and do the guards see it in time?",
    CONFIG,
    QUICK,
    cells,
    prepare,
    tables,
    figures,
)
