"""Study 2: how good are the cells that searches find, against all 15,625 of NAS-Bench-201's space?

Each search is small: a network of few channels and cells, some hundred steps. Its cells after every epoch, the scores that its
alphas give to all cells, and the scores that its shared weights give to some of them are compared with accuracies of large
trainings, from the package analog-nasbench. These are not the official table of the benchmark: another recipe trained its
networks (see `cell_table`), so that its numbers stand beside no published ones.

Data:     pip install --no-deps analog-nasbench==0.1.3    (no licence text; `make study` brings it)
Command:  make study ARGS="--only cell"                   (make study-full for the sizes of CONFIG)
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
from nasbench201 import text_of

from jdarts.baselines import BASELINES
from jdarts.baselines.architectures import Architecture, Architectures, choice_architectures
from jdarts.baselines.weight_sharing import baseline_for, select_cells
from jdarts.data import ImageDataset
from jdarts.errors import InputError
from jdarts.runs.bounds import CHANNELS, EPOCHS, POSITIVE, Bounds
from jdarts.runs.settings import Settings
from jdarts.search import SearchConfig

from . import images
from .cell_guards import guards
from .cell_ranking import Ranking, drawn_cells
from .cell_search import RANDOM_CELLS, AfterEpoch, CellSearch, search_settings
from .cell_table import REQUIREMENT, find_table, read_table
from .cell_tables import figures, tables
from .study import Cell, Measure, Row, Study

#: Forward passes that take as long as a forward and a backward pass.
_PASSES = 3
#: Whose accuracies a row has.
_SOURCE = f"{REQUIREMENT}, not the official NAS-Bench-201"
#: Seed of the cells that all shared weights score.
_SAMPLE_SEED = 201
#: Folded into the seed of a search for the proposals of its baselines.
_PROPOSALS = 0xBA5E

_ESTIMATORS = ("first_order", "finite_difference", "exact")
_DARTS = tuple(f"darts:{name}" for name in _ESTIMATORS)
_METHODS = ("fair_darts", "drnas", "gdas", "sdarts_rs")


@dataclasses.dataclass(frozen=True)
class CellConfig(Settings):
    """The settings of the study.

    Attributes:
      searches: methods and estimators, each METHOD:HYPERGRADIENT; `random_sharing:first_order` trains weights by random cells,
        among which each of `jdarts.baselines.BASELINES` chooses.
      seeds: searches of each.
      images: training images, half for the weights and half for the alphas.
      image_size: height and width to which the images are averaged.
      channels: of the first stage of the network.
      cells: of each of its three stages.
      epochs: of each search.
      batch_size: images of a batch.
      learning_rate: of the weights.
      alpha_rate_factor: factor of the alphas' learning rate, as in `experiments/compare_methods.py`.
      eigenvalues: those of `searches` whose largest eigenvalue is measured after every epoch, which takes about as long as an
        epoch of them.
      sample: cells that the shared weights score at the end.
      score_images: images that score one.
      finalists: proposals of a baseline that the whole half scores.
    """

    searches: tuple[str, ...] = (
        *_DARTS,
        f"{RANDOM_CELLS}:first_order",
        *(f"{method}:{name}" for name in ("first_order", "exact") for method in _METHODS),
        "idarts:neumann",
        *(f"{method}:finite_difference" for method in _METHODS),
    )
    seeds: Annotated[int, Bounds(2, 1000)] = 4
    images: Annotated[int, Bounds(4, 1_000_000)] = 2560
    image_size: Annotated[int, Bounds(4, 1024)] = 16
    channels: Annotated[int, CHANNELS] = 4
    cells: Annotated[int, Bounds(1, 100)] = 1
    epochs: Annotated[int, EPOCHS] = 16
    batch_size: Annotated[int, Bounds(2, 100_000)] = 64
    learning_rate: Annotated[float, POSITIVE] = 0.1
    alpha_rate_factor: Annotated[float, POSITIVE] = 20.0
    eigenvalues: tuple[str, ...] = _DARTS
    sample: Annotated[int, Bounds(2, 15_625)] = 100
    score_images: Annotated[int, Bounds(2, 1_000_000)] = 256
    finalists: Annotated[int, Bounds(1, 15_625)] = 5

    def check(self) -> None:
        """Checks the names of the searches.

        Raises:
          InputError: a value out of its range, or no such method or estimator.
        """
        super().check()
        for name in self.searches:
            method, _, hypergradient = name.partition(":")
            if not hypergradient:
                raise InputError(f"--searches names {name}; give METHOD:HYPERGRADIENT, such as darts:exact")
            self.settings(method, hypergradient).check()
        for name in self.eigenvalues:
            if name not in self.searches or name.startswith(f"{RANDOM_CELLS}:"):
                raise InputError(f"--eigenvalues names {name}; give searches by alphas that --searches names")

    def measures_eigenvalues(self, method: str, hypergradient: str) -> bool:
        """Whether the largest eigenvalue is measured in the searches with a method and an estimator."""
        return f"{method}:{hypergradient}" in self.eigenvalues

    def settings(self, method: str, hypergradient: str) -> SearchConfig:
        """The settings of the searches with a method and an estimator.

        Raises:
          InputError: there is no such method or estimator.
        """
        return search_settings(
            method,
            hypergradient,
            alpha_rate_factor=self.alpha_rate_factor,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
        )


CONFIG = CellConfig()

#: The share of `make study`.
QUICK = CellConfig(
    searches=(*_DARTS, f"{RANDOM_CELLS}:first_order"),
    eigenvalues=(),
    images=1024,
    image_size=8,
    epochs=12,
    sample=50,
)


def cells(config: CellConfig) -> list[Cell]:
    """A cell for each search; the seeds of a method and an estimator, which share programs, follow one another."""
    pairs = [name.split(":") for name in config.searches]
    return [
        {"method": method, "hypergradient": hypergradient, "seed": seed}
        for method, hypergradient in pairs
        for seed in range(config.seeds)
    ]


def prepare(config: CellConfig, dataset: ImageDataset) -> Measure:
    """The function that measures a search, with the programs of all seeds.

    Raises:
      InputError: the package with the accuracies is not installed, or damaged.
    """
    ranking = Ranking(read_table(find_table()))
    small = images.smaller(dataset, images=config.images, size=config.image_size)
    sample = drawn_cells(config.sample, _SAMPLE_SEED)

    # The seeds of a pair follow one another; the programs of the pairs before them would fill the memory.
    @functools.lru_cache(maxsize=1)
    def search_with(method: str, hypergradient: str) -> CellSearch:
        return CellSearch(
            config.settings(method, hypergradient),
            small,
            channels=config.channels,
            cells=config.cells,
            eigenvalues=config.measures_eigenvalues(method, hypergradient),
            score_images=config.score_images,
        )

    def measure(cell: Cell, folder: Path) -> list[Row]:
        del folder
        search = search_with(cell["method"], cell["hypergradient"])
        if cell["method"] == RANDOM_CELLS:
            return _proposed(config, search, ranking, sample, cell["seed"])
        return [_searched(config, search, ranking, sample, cell["seed"])]

    return measure


def _searched(
    config: CellConfig, search: CellSearch, ranking: Ranking, sample: Sequence[Mapping[str, str]], seed: int
) -> Row:
    """A search by alphas: its cell after every epoch, and the scores of its alphas and weights."""
    records, taus, seconds = [], [], []
    rules = guards(config.epochs, eigenvalues=search.eigenvalues)
    last: AfterEpoch | None = None
    for last in search.run(seed):
        records.append(search.record(last))
        taus.append(ranking.tau_of_alphas(search.strengths(last.state)))
        seconds.append(last.processor_seconds)
    assert last is not None
    without_none = search.choices(last.state, never=("none",))
    scores = search.accuracies(last.state, sample)
    return {
        "cell": text_of(records[-1].choices),
        "ranks": [ranking.rank(record.choices) for record in records],
        "regrets": [ranking.regret(record.choices) for record in records],
        "taus": taus,
        "skips": [record.skips for record in records],
        "nones": [list(record.choices.values()).count("none") for record in records],
        "margins": [record.margin for record in records],
        "decided": [record.decided for record in records],
        "eigenvalues": [record.eigenvalue for record in records],
        "stops": {name: rule(records) for name, rule in rules.items()},
        "without_none": {"rank": ranking.rank(without_none), "regret": ranking.regret(without_none)},
        "tau_one_hot": ranking.tau_of_scores(sample, scores),
        "processor_seconds_per_step": float(np.median(seconds[1:] or seconds)) / search.steps_per_epoch,
        "of_random": {"regret": ranking.best - ranking.mean},
        "accuracies": _SOURCE,
    }


def _proposed(
    config: CellConfig, search: CellSearch, ranking: Ranking, sample: Sequence[Mapping[str, str]], seed: int
) -> list[Row]:
    """The cells that each baseline chooses by the weights that random cells have trained."""
    *_, last = search.run(seed)
    tau = ranking.tau_of_scores(sample, search.accuracies(last.state, sample))
    architectures = choice_architectures(search.own.space)
    candidates = proposals(config, search)
    rows = []
    for number, name in enumerate(BASELINES):
        best = search.answered(
            select_cells(
                baseline_for(name, candidates),
                architectures,
                jax.random.fold_in(jax.random.key(seed), _PROPOSALS + number),
                candidates=candidates,
                finalists=min(config.finalists, candidates),
            ),
            last.state,
        )
        choices = chosen(architectures, best.architecture)
        rows.append(
            {
                "method": name,
                "hypergradient": "none",
                "cell": text_of(choices),
                "ranks": [ranking.rank(choices)],
                "regrets": [ranking.regret(choices)],
                "tau_one_hot": tau,
                "candidates": candidates,
                "of_random": {"regret": ranking.best - ranking.mean},
                "accuracies": _SOURCE,
            }
        )
    return rows


def proposals(config: CellConfig, search: CellSearch) -> int:
    """How many cells a baseline scores: the passes that a first-order search spends on its alphas.

    A step of the alphas is a forward and a backward pass of a batch, which count as three forward passes; the finalists are among
    what is paid by them.
    """
    passes = _PASSES * search.epochs * search.steps_per_epoch * config.batch_size
    return max(1, passes // search.images_per_score - config.finalists * search.score_batches)


def chosen(architectures: Architectures, architecture: Architecture) -> dict[str, str]:
    """The operation of each edge of an architecture of one row for each choice."""
    names = [name for name, _ in architectures.tables]
    return {name: row[column] for name, row, column in zip(names, architectures.operations[0], architecture[0])}


STUDY = Study(
    "cell",
    "How good are the cells that small searches find?",
    CONFIG,
    QUICK,
    cells,
    prepare,
    tables,
    figures,
    check=find_table,
)
