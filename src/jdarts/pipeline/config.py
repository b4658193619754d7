"""The settings of a pipeline, which are also its command line."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jdarts.budget.amounts import amount
from jdarts.budget.flags import NO_BOUND
from jdarts.errors import InputError
from jdarts.methods.selection import SHARING
from jdarts.runs.bounds import EPOCHS, WITHIN_ONE, Bounds, option
from jdarts.runs.budget_options import BudgetOptions
from jdarts.runs.image_options import ImageData
from jdarts.runs.options import Parallelism, Run
from jdarts.runs.settings import WITHOUT_EFFECT, Configuration, Whole, as_json, entries, flat
from jdarts.search import SearchConfig
from jdarts.train import TrainConfig

Baseline = Literal[
    "none", "random", "evolution", "reinforce", "random_sharing", "evolution_sharing", "reinforce_sharing"
]

#: The paper compares the best of 4 searches with the best of 24 random cells, at the same cost (table 1).
RANDOM_PER_SEARCH = 6

_Amounts = tyro.conf.arg(metavar="AMOUNT ...", help_behavior_hint="(default: none)")


@contextlib.contextmanager
def options_of(part: str) -> Iterator[None]:
    """Renames options in messages to those of the pipeline's command line: `--search.epochs` for `--epochs`."""
    config = {"search": SearchConfig, "train": TrainConfig}[part]
    own = {option(name)[2:] for name in entries(config).keys() - _SHARED}

    def named(match: re.Match[str]) -> str:
        return f"--{part}.{match[1]}" if match[1].removeprefix("no-") in own else match[0]

    try:
        yield
    except InputError as error:
        raise InputError(re.sub(r"(?<!\S)--([a-z][a-z-]*)", named, str(error))) from error


def within(bound: int | None) -> str:
    """The start of the folder names of a budget's runs."""
    return "" if bound is None else f"{bound}-"


@dataclasses.dataclass(frozen=True, init=False)
class PipelineConfig(Configuration):
    """Settings of the paper's protocol: several searches, then selection and full training of the best cells (section 3).

    The cells of each search are trained briefly and validated on images that this training has not seen. The cells with the
    best validation accuracy are trained in full, several times, and tested. The defaults are the paper's for CIFAR-10.
    The folder of all runs, where --run-dir names none, is runs/pipeline-DATASET-seedSEED.

    Attributes:
      searches: number of searches, which differ only in their seeds.
      select_epochs: epochs of the brief trainings that select the cells.
      select_fraction: share of the training images that validate the brief trainings.
      repeats: number of full trainings of the selected cells, which differ only in their seeds.
      select_by: what chooses among the cells of the searches. brief: a brief training of each. supernet: the accuracy of each
        search's supernet with the operations of its cells alone.
      baseline: adds a search without gradients in the same space, whose cells are selected and trained in the same way: random
        cells; or regularised evolution (its first 10 cells are random) or REINFORCE, which learn from the brief trainings. With
        random_sharing, evolution_sharing and reinforce_sharing (random search with weight sharing, and proposals of the others
        on such weights) as many supernets as there are searches are trained by random cells, for as many steps as a search, and
        each gives the best cells of its proposals. You can add a baseline to a finished pipeline.
      random_cells: number of cells of the baseline, or of random cells for each of the budgets; with shared weights the number of
        proposals for each supernet, by default 1000 (default: 6 for each search, which cost the same in the paper).
      budgets: bounds on the weights of the trained network without its auxiliary head, such as 0.2M 0.4M none; none is no bound.
        Each has its own searches, selection and full trainings, and random cells of the same sizes beside them: accuracy
        against size as a table and a picture. You can add budgets to a finished pipeline.
      data: the images of searches and trainings.
      run: folder and seed; the seed is that of the first search, the first full training and the brief trainings.
      parallelism: the devices of every run.
      search: settings of the searches.
      train: settings of the trainings.
    """

    searches: Annotated[int, Bounds(1, 10_000)] = 4
    select_epochs: Annotated[int, EPOCHS] = 100
    select_fraction: Annotated[float, WITHIN_ONE] = 0.1
    repeats: Annotated[int, Bounds(1, 10_000)] = 10
    select_by: Literal["brief", "supernet"] = "brief"
    baseline: Annotated[Baseline, WITHOUT_EFFECT] = "none"
    random_cells: Annotated[int | None, Bounds(1, 100_000), Whole, WITHOUT_EFFECT] = None
    budgets: Annotated[tuple[str, ...], _Amounts, WITHOUT_EFFECT] = ()
    data: ImageData = ImageData()
    run: Run = Run()
    parallelism: Parallelism = Parallelism()
    search: SearchConfig = SearchConfig()
    train: TrainConfig = TrainConfig()

    def with_method(self, name: str) -> "PipelineConfig":
        """These settings with those of a search method in the place of the searches' own.

        Raises:
          InputError: there is no such method.
        """
        return dataclasses.replace(self, search=self.search.with_method(name))

    def with_shared_once(self) -> "PipelineConfig":
        """These settings, where no part repeats what the pipeline sets for all its runs.

        The parts of an experiment come from whole searches and trainings, which name the data set too. Without that repetition an
        option such as --dataset changes it for all runs.
        """
        own = flat(self)

        def once(part: str) -> Any:
            given, usual = flat(getattr(self, part)), flat(type(getattr(self, part))())
            repeated = [name for name in _PIPELINE_SETTINGS[part] if name in own and given[name] == own[name]]
            return dataclasses.replace(getattr(self, part), **{name: usual[name] for name in repeated})

        return dataclasses.replace(self, **{part: once(part) for part in _PIPELINE_SETTINGS})

    def check(self) -> None:
        """Checks every value that can be checked without the data.

        Raises:
          InputError: a value out of its range, or a setting of a part that the pipeline itself sets.
        """
        super().check()
        runs = max(self.searches, self.repeats, self.num_random_cells)
        if self.run.seed + runs > 2**32:
            raise InputError(f"--seed is {self.run.seed}; give a number below {2**32 - runs + 1}")
        if self.select_by == "supernet" and not self.shares_weights and self.baseline != "none":
            raise InputError(
                f"--select-by supernet has no supernet for the cells of --baseline {self.baseline}; give --select-by brief, or "
                f"--baseline {' or '.join(SHARING)}"
            )
        if self.budgets:
            self._check_budgets()
        own = flat(self)
        for part, excluded in _PIPELINE_SETTINGS.items():
            given, usual = flat(getattr(self, part)), flat(type(getattr(self, part))())
            for name, instead in excluded.items():
                if given[name] not in (usual[name], own.get(name, usual[name])):
                    raise InputError(f"{option(f'{part}.{name}')} has no effect within a pipeline; {instead}")
        with options_of("search"):
            for bound in self.bounds:
                self.search_config(0, bound).check()
            if self.shares_weights:
                self.sharing_config(0).check()
        with options_of("train"):
            self.brief_config(self.train.genotype, Path()).check()
            self.full_config(self.train.genotype, 0, Path()).check()

    def _check_budgets(self) -> None:
        """Checks the budgets, and what cannot be beside them.

        Raises:
          InputError: one is no amount, or such a setting is given.
        """
        bounds = self.bounds
        if len(set(bounds)) < len(bounds):
            raise InputError(f"--budgets is {' '.join(self.budgets)}, with one bound twice; give each once")
        if self.baseline not in ("none", "random"):
            raise InputError(
                f"--baseline {self.baseline} does not keep --budgets, which have random cells of the same sizes beside them; "
                "leave it out"
            )
        if self.select_by != "brief":
            raise InputError(
                f"--select-by {self.select_by} has no supernet for the random cells beside --budgets; give --select-by brief"
            )
        given = flat(self.search.budget)
        for name, usual in flat(BudgetOptions()).items():
            if name != "budget_rate" and given[name] != usual:
                raise InputError(
                    f"{option(f'search.{name}')} is {given[name]} beside --budgets, which bound the network that is trained; "
                    "leave it out"
                )
        if self.train.network != "cifar":
            raise InputError(f"--train.network is {self.train.network}; --budgets are for --train.network cifar")

    @property
    def bounds(self) -> tuple[int | None, ...]:
        """The largest number of weights of each budget, ascending; None for no bound, and alone without budgets.

        Raises:
          InputError: one is no amount.
        """
        found: list[int] = []
        for text in self.budgets:
            if text.strip() == NO_BOUND:
                continue
            try:
                found.append(amount(text))
            except InputError as error:
                raise InputError(f"--budgets: {error}") from None
        unbounded = [None] * (len(self.budgets) - len(found)) if self.budgets else [None]
        return (*sorted(found), *unbounded)

    @property
    def folder(self) -> Path:
        """The folder of all runs. The same settings give the same folder."""
        return self.run.folder("pipeline", self.data.label)

    @property
    def num_random_cells(self) -> int:
        """Number of cells of the baseline that are trained, or of random cells for each budget; 0 without one."""
        if self.baseline == "none" and not self.budgets:
            return 0
        if self.shares_weights:
            return self.searches
        return RANDOM_PER_SEARCH * self.searches if self.random_cells is None else self.random_cells

    @property
    def shares_weights(self) -> bool:
        """Whether the cells of the baseline are those that shared weights score best."""
        return self.baseline in SHARING

    def search_config(self, number: int, bound: int | None = None) -> SearchConfig:
        """The settings of a search, counted from 0, within a budget."""
        seed = self.run.seed + number
        changes: dict[str, Any] = {"evaluate_cells": True} if self.select_by == "supernet" else {}
        if bound is not None:
            size = self.train.size
            changes |= {"max_weights": bound, "budget_channels": size.channels, "budget_cells": size.cells}
        elif self.budgets:
            changes["budget"] = BudgetOptions()
        folder = self.folder / "searches" / f"{within(bound)}seed{seed}"
        return dataclasses.replace(self.search, **self._common(folder, seed), **changes)

    def sharing_config(self, number: int) -> SearchConfig:
        """The settings of a supernet of a baseline with shared weights, counted from 0.

        It has the steps of a search, and the supernet and the weights' optimiser of its last stage.
        """
        search = self.search_config(number)
        deciding, usual = search.deciding(), SearchConfig()
        candidates = {} if self.random_cells is None else {"decision_candidates": self.random_cells}
        return dataclasses.replace(
            search,
            **{part: getattr(usual, part) for part in ("methods", "staging", "decision", "guards")},
            **{name: getattr(usual, name) for name in ("neumann_terms", "neumann_at", "stop", "edges_per_node")},
            **candidates,
            correlation=0.0,
            freeze_below=None,
            freeze_compared=usual.supernet.freeze_compared,
            method=self.baseline,
            select=self.baseline,
            hypergradient="first_order",
            epochs=search.loop.epochs if deciding is None else deciding.epochs,
            run_dir=self.folder / "searches" / f"{self.baseline}-seed{search.run.seed}",
        )

    def brief_config(self, genotype: str, folder: Path) -> TrainConfig:
        """The settings of the brief training that validates cells."""
        return dataclasses.replace(
            self.train,
            genotype=genotype,
            epochs=self.select_epochs,
            validation_fraction=self.select_fraction,
            test=False,
            **self._common(folder, self.run.seed),
        )

    def full_config(self, genotype: str, number: int, folder: Path) -> TrainConfig:
        """The settings of a full training of the selected cells, counted from 0."""
        return dataclasses.replace(self.train, genotype=genotype, **self._common(folder, self.run.seed + number))

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON data; those of the parts have names such as `train.epochs`."""
        content = as_json(self) | {"dataset": self.data.name}
        for part, excluded in _PIPELINE_SETTINGS.items():
            settings = getattr(self, part).to_json()
            content |= {f"{part}.{name}": value for name, value in settings.items() if name not in excluded}
        return content

    def _common(self, folder: Path, seed: int) -> dict[str, Any]:
        return {
            "data": self.data,
            "run": dataclasses.replace(self.run, run_dir=folder, seed=seed),
            "parallelism": self.parallelism,
        }


_SHARED = {
    "dataset": "give --dataset",
    "data_dir": "give --data-dir",
    "image_size": "give --image-size",
    "run_dir": "give --run-dir",
    "seed": "give --seed",
    "plugin": "give --plugin",
    "time_limit": "give --time-limit",
    "extend": "its results depend on each other; choose another --run-dir for other --epochs",
    "change_batch_size": "its results depend on each other; choose another --run-dir for other batches",
    "devices": "give --devices",
    "parallel": "give --parallel",
}
#: Settings of the parts that the pipeline itself sets, each with what to give instead.
_PIPELINE_SETTINGS = {
    "search": _SHARED
    | {
        **dict.fromkeys(("color_jitter", "workers"), "its searches have their images in memory"),
        "seeds": "--searches is their number, and --seed is the seed of the first",
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
