"""The paper's protocol: one run of several runs, each of which resumes after an interruption."""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import jax

from jdarts import data, search, train
from jdarts.baselines import BASELINES, Baseline, darts_architectures, evolution, genotype_of
from jdarts.budget.bounded import check_bound
from jdarts.budget.cost import Cost, Limit
from jdarts.budget.counting import counted_costs
from jdarts.budget.sampling import sample_of_size
from jdarts.derivation import sample_genotype
from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.pipeline.arms import Arm, Candidate
from jdarts.pipeline.budgets import BUDGETS, BudgetResult
from jdarts.pipeline.config import PipelineConfig, options_of, within
from jdarts.pipeline.result import PipelineResult
from jdarts.report import draw_budgets, draw_cells
from jdarts.runs import CompiledPrograms, RunFolder
from jdarts.runs.devices import Devices
from jdarts.runs.folder import PAGE, SUMMARY, TABLE
from jdarts.runs.names import named_after
from jdarts.runs.time_limit import limited
from jdarts.search import SearchConfig
from jdarts.search import summary as search_summary
from jdarts.search.building import search_images
from jdarts.space import SearchSpace
from jdarts.train import TrainConfig, TrainResult
from jdarts.train import summary as train_summary
from jdarts.train.task import check_images

#: Random cells beside a budget have the size of a search's cells up to one part in so many.
SAME_SIZE = 20
#: The population of an evolution and the samples from it, for few cells: those of NAS-Bench-201's comparison.
POPULATION, SAMPLE = 10, 3


def pipeline(
    config: PipelineConfig, *, dataset: data.ImageDataset | None = None, stream: TextIO | None = None
) -> PipelineResult:
    """Searches several times, selects cells by a brief training of each, trains the best ones in full and tests them.

    The folder decides: finished runs in it are not repeated, interrupted ones resume, and the result is that of an undisturbed
    pipeline. The searches share one compiled program; so do the full trainings.

    Args:
      config: the settings.
      dataset: images that are not one of `jdarts.data.NAMES`.
      stream: where progress and the table are shown; standard output by default.

    Returns:
      The result.

    Raises:
      InputError: settings, data or folder do not fit, the disk is full, or a loss is not finite.
      Interrupted: SIGINT or SIGTERM came, or the time limit is over; the state was saved first.
    """
    config.check()
    config = named_after(config, dataset, data.ImageDataset)
    settings = config.to_json()
    folder = RunFolder(config.folder)
    folder.check(settings)
    # Missing devices are refused before the data are read.
    Devices(config.parallelism.devices, config.parallelism.parallel)
    images = functools.cache(lambda: config.data.images(dataset, stream))
    work = _Pipeline(config, folder, images, sys.stdout if stream is None else stream)
    if not folder.path.exists():
        work.check_images()
    if config.budgets:
        work.check_budgets()
    with limited(config.run.time_limit), folder.lock(settings, images().fingerprint):
        result = work.result()
        table, numbers = result.table(), result.to_json()
        folder.write_genotype(result.genotype)
        draw_cells(result.genotype, folder.path)
        folder.write(TABLE, f"{table}\n")
        folder.write(SUMMARY, json.dumps(numbers, indent=1) + "\n")
        if result.budgets:
            with folder.writing():
                for suffix in (".svg", ".png"):
                    draw_budgets(numbers[BUDGETS], folder.path / f"{BUDGETS}{suffix}")
        # Imported here, since it takes a while.
        from jdarts.report.html.pages import page_of

        folder.write(PAGE, page_of(folder.path))
    picture = f"; picture: {folder.path / BUDGETS}.svg (and .png)" if result.budgets else ""
    where = f"network: {result.chosen.trainings[0].folder}; table: {folder.path / TABLE}{picture}"
    work.show(f"\n{table}\n\n{where}")
    return result


@dataclasses.dataclass(frozen=True)
class _Pipeline:
    """A pipeline in this process."""

    config: PipelineConfig
    folder: RunFolder
    images: Callable[[], data.ImageDataset]
    stream: TextIO | None

    def show(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def check_images(self) -> None:
        """Refuses images that do not fit one of the runs, before the searches start."""
        with options_of("search"):
            search_images(self.config.search_config(0), self.images())
        space, edges_per_node = self._space
        drawn = str(sample_genotype(space, 0, edges_per_node=edges_per_node))
        trainings = [self.config.full_config(drawn, 0, Path())]
        if self.config.select_by == "brief":
            trainings.append(self.config.brief_config(drawn, Path()))
        for config in trainings:
            with options_of("train"):
                check_images(config, self.images())

    def check_budgets(self) -> None:
        """Refuses bounds that no cells keep, before the searches start."""
        for bound in self.config.bounds:
            if bound is not None:
                with options_of("search"):
                    check_bound(Limit(self._weights, bound), *self._space)

    def result(self) -> PipelineResult:
        """Runs what has not ended yet."""
        if not self.config.budgets:
            return PipelineResult(tuple(self.arms()), self.config.folder)
        return PipelineResult((), self.config.folder, tuple(map(self._within, self.config.bounds)))

    @functools.cached_property
    def _weights(self) -> Cost:
        """The weights of the network that is trained."""
        config = self.config.search_config(0, 1)
        space, images = config.search_space, self.images()
        network = config.budget.target(space, images.image_shape, images.num_classes)
        return counted_costs(space, network)["weights"]

    @property
    def _space(self) -> tuple[SearchSpace, int]:
        """The search space, and the edges that derivation keeps for each node."""
        config = self.config.search_config(0)
        return config.search_space, config.edges_per_node

    def _within(self, bound: int | None) -> BudgetResult:
        """Searches and trainings within a bound, and random cells of the same sizes."""
        prefix, (space, edges_per_node) = within(bound), self._space
        searches = [self.config.search_config(number, bound) for number in range(self.config.searches)]
        found = self._arm("search", self._searched("search", searches, prefix), prefix)
        sizes = [self._weights.of(each.genotype, space) for each in found.candidates]
        prefix, random, count = prefix or "unbounded-", [], self.config.num_random_cells
        for number in range(count):
            size, seed = sizes[number % len(sizes)], self.config.run.seed + number
            least, most = size - size // SAME_SIZE, size + size // SAME_SIZE
            cells = sample_of_size(
                self._weights,
                space,
                seed,
                least=least,
                most=most if bound is None else min(most, bound),
                edges_per_node=edges_per_node,
            )
            what = f"selection among {count} random cells of the searched cells' sizes, seed {seed}{_words(bound)}"
            random.append(self._unsearched(cells, f"{prefix}random", seed, what))
        arms = found, self._arm("random", random, prefix)
        return BudgetResult(bound, *(arm.with_sizes(lambda cells: self._weights.of(cells, space)) for arm in arms))

    def arms(self) -> list[Arm]:
        searches = [self.config.search_config(number) for number in range(self.config.searches)]
        arms = [self._arm("search", self._searched("search", searches))]
        name = self.config.baseline
        if self.config.shares_weights:
            supernets = [self.config.sharing_config(number) for number in range(self.config.searches)]
            arms.append(self._arm(name, self._searched(name, supernets)))
        elif self.config.num_random_cells:
            arms.append(self._arm(name, self._drawn() if name == "random" else self._proposed(name)))
        return arms

    def _searched(self, name: str, searches: Sequence[SearchConfig], prefix: str = "") -> list[Candidate]:
        """The cells of searches, each trained briefly unless their supernets are compared; `prefix` is as for `within`."""
        programs, found = CompiledPrograms(), []
        for number, config in enumerate(searches, 1):
            if not RunFolder(config.folder).has_ended:
                self.folder.check_unchanged()
                what = "search" if name == "search" else f"supernet of {name}"
                self.show(
                    f"\n{what} {number} of {len(searches)}, seed {config.run.seed}{_words(config.budget.max_weights)}"
                )
                search.search(config, dataset=self.images(), stream=self.stream, programs=programs)
            found.append((config, search_summary.read(RunFolder(config.folder))))
        return [self._candidate(name, config, ended, prefix) for config, ended in found]

    def _candidate(
        self, name: str, config: SearchConfig, ended: search_summary.SearchSummary, prefix: str
    ) -> Candidate:
        seed, result = config.run.seed, ended.result
        if self.config.select_by == "supernet":
            if result.cells_accuracy is None:
                raise InputError(
                    f"{config.folder} has finished without --evaluate-cells, which --select-by supernet reads; remove its "
                    "summary.json, so that its end is repeated"
                )
            return Candidate(seed, result.genotype, result.valid_accuracy, None, ended.seconds, result.cells_accuracy)
        among = f"{self.config.searches} {'searches' if name == 'search' else name}"
        what = f"selection among {among}, seed {seed}{_words(config.budget.max_weights)}"
        brief = self._brief(result.genotype, f"{prefix}{name}{seed}", what)
        return Candidate(seed, result.genotype, result.valid_accuracy, brief, ended.seconds)

    def _drawn(self) -> list[Candidate]:
        count, first, (space, edges_per_node) = self.config.num_random_cells, self.config.run.seed, self._space
        return [
            self._unsearched(
                sample_genotype(space, seed, edges_per_node=edges_per_node),
                "random",
                seed,
                f"selection among {count} random cells, seed {seed}",
            )
            for seed in range(first, first + count)
        ]

    def _proposed(self, name: str) -> list[Candidate]:
        """The cells of a baseline that learns from the brief trainings, all of which are in the folder after an interruption."""
        count, (space, edges_per_node) = self.config.num_random_cells, self._space
        architectures = darts_architectures(space, edges_per_node=edges_per_node)
        baseline, key = _baseline(name), jax.random.key(self.config.run.seed)
        state = baseline.init(jax.random.fold_in(key, 0), architectures)
        candidates = []
        for number in range(count):
            proposed, state = baseline.propose(architectures, state, jax.random.fold_in(key, 1 + number))
            cells, seed = genotype_of(architectures, proposed, space), self.config.run.seed + number
            candidates.append(self._unsearched(cells, name, seed, f"cell {number + 1} of {count} that {name} proposes"))
            state = baseline.update(architectures, state, proposed, 100 * candidates[-1].valid_accuracy)
        return candidates

    def _unsearched(self, cells: Genotype, name: str, seed: int, what: str) -> Candidate:
        """Cells that no search has found, trained briefly."""
        return Candidate(seed, cells, None, self._brief(cells, f"{name}{seed}", what), 0.0)

    def _brief(self, genotype: Genotype, name: str, what: str) -> TrainResult:
        """The brief training of cells, in a folder of this name."""
        folder = self.config.folder / "selection" / name
        return self._trained(self.config.brief_config(str(genotype), folder), what, CompiledPrograms())

    def _arm(self, name: str, candidates: list[Candidate], prefix: str = "") -> Arm:
        """Selects the candidate with the best validation accuracy, the first among equals, and trains it in full."""
        chosen = max(range(len(candidates)), key=lambda place: candidates[place].valid_accuracy)
        programs, repeats = CompiledPrograms(), self.config.repeats
        trainings = []
        for number in range(repeats):
            folder = self.config.folder / "trainings" / f"{prefix}{name}-seed{self.config.run.seed + number}"
            config = self.config.full_config(str(candidates[chosen].genotype), number, folder)
            what = f"full training {number + 1} of {repeats} of the cells chosen from {prefix}{name}, seed {config.run.seed}"
            trainings.append(self._trained(config, what, programs))
        return Arm(name, tuple(candidates), chosen, tuple(trainings))

    def _trained(self, config: TrainConfig, what: str, programs: CompiledPrograms) -> TrainResult:
        if not RunFolder(config.folder).has_ended:
            self.folder.check_unchanged()
            self.show(f"\n{what}")
            train.train(config, dataset=self.images(), stream=self.stream, programs=programs)
        return train_summary.read(RunFolder(config.folder)).result


def _words(bound: int | str | None) -> str:
    """The bound of a run, for its first line."""
    return "" if bound is None else f", at most {bound:,} weights"


def _baseline(name: str) -> Baseline:
    """A baseline. Its first proposals do not depend on how many there are in all, so that more cells may be added later."""
    return evolution(POPULATION, SAMPLE) if name == "evolution" else BASELINES[name]()
