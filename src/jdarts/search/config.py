"""The settings of a search, which are also its command line."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from jdarts.baselines.weight_sharing import BATCHES
from jdarts.budget.flags import BOUND_OPTIONS
from jdarts.errors import InputError
from jdarts.genotype import INPUT_STATES
from jdarts.methods.method import Method
from jdarts.methods.perturbation_selection import check_space
from jdarts.methods.presets import DARTS, PRESETS, preset
from jdarts.methods.random_cells import INPUTS, RANDOM_CELLS
from jdarts.methods.selection import ARGMAX, PERTURBATION, SELECTIONS, SHARING, reads_decisions, selection_by_name
from jdarts.methods.stopping import check_stopping_rule, stopping_rule
from jdarts.named_spaces import DARTS as DARTS_SPACE
from jdarts.named_spaces import find_space, recorded_space
from jdarts.nets.stem import Stem, check_stem
from jdarts.operations import searchable_operations
from jdarts.runs.bounds import NODES, SEED, WITHIN_ONE, Bounds, option
from jdarts.runs.budget_options import BudgetOptions
from jdarts.runs.devices import check_share
from jdarts.runs.folder import stage_folder
from jdarts.runs.guards import Guards
from jdarts.runs.image_options import (
    ImageAugmentation,
    ImageBatches,
    ImageData,
    LargePictures,
    LearningRate,
    NetworkSize,
)
from jdarts.runs.method_options import (
    SERIES_TERMS,
    MethodConfiguration,
    MethodOptions,
    SeriesAt,
    SupernetOptions,
    check_series,
)
from jdarts.runs.options import AlphaOptimizer, BatchNorm, Calls, Loop, Parallelism, Processes, Run, WeightOptimizer
from jdarts.runs.settings import WITHOUT_EFFECT, Recorded, as_json, flat
from jdarts.runs.stage_options import EdgeOperations, StageOptions
from jdarts.search.deciding import Deciding, Perturbation, SharedWeights
from jdarts.search.deciding_options import DecidingOptions
from jdarts.space import (
    CELL_KINDS,
    CELL_NAMES,
    DARTS_PRIMITIVES,
    CellKind,
    SearchSpace,
    cell_kinds,
    check_mixture,
    check_operations,
    uniform_space,
)

Hypergradient = Literal["exact", "finite_difference", "first_order", "neumann"]
Precision = Literal["float32", "bfloat16"]
CellKinds = Literal["both", "normal", "reduce"]

_SELECT = tyro.conf.arg(metavar="{" + ",".join(SELECTIONS) + "}")
_PRESET = tyro.conf.arg(metavar="{" + ",".join(PRESETS) + "}")


@dataclasses.dataclass(frozen=True, init=False)
class SearchConfig(MethodConfiguration):
    """Settings of a search. The defaults are the paper's for CIFAR-10 (section 3.1.1 and its reference code).

    A run's folder, where --run-dir names none, is runs/search-DATASET-HYPERGRADIENT-seedSEED, with the method before the
    hypergradient unless it is darts.

    Attributes:
      hypergradient: estimator of the alphas' gradient through the weights' step. exact and finite_difference are second
        order; first_order ignores the step; neumann: of several steps, by a truncated series (iDARTS).
      neumann_terms: terms of the series after the first.
      neumann_at: the weights at which the validation loss is taken. virtual: after one step, as for exact; present: those that
        the steps before have led to (iDARTS).
      space: the search space: darts, with --operations on every edge of --nodes; s1, s2, s3 or s4 (RobustDARTS); or a JSON
        file with the operations of each edge, {"normal": [["skip_connect", "sep_conv_3x3"], ...], "reduce": [...]}.
      nodes: number of nodes of a cell.
      output_nodes: the last so many nodes are joined to the output of a cell (default: all).
      cell_kinds: kinds of cells that the network has and the search finds. normal: no cell is a reduction cell, so that the
        channels and the size of the maps stay as they are. reduce: for networks of 1 or 2 --cells, which are reduction cells.
      operations: candidate operations of every edge.
      edges_per_node: number of edges that derivation keeps for each node.
      select: rule by which cells are derived, as for `python -m jdarts.derive`. perturbation: what the supernet loses without
        an operation, after the --epochs of the search (DARTS-PT). random_sharing, evolution_sharing, reinforce_sharing: cells
        that a baseline proposes, scored by weights that random cells have trained.
      train_fraction: share of the training set that trains weights.
      alpha_fraction: share of the training set that trains alphas (default: all that --train-fraction leaves).
      network: stem of the network: cifar for small images, or imagenet, which halves the images three times (PC-DARTS). With it a
        folder of your own is read picture by picture, in random crops, and need not fit into memory.
      seeds: seeds of several searches that run at once, such as 0-3 or 0,2,5. Each has its own folder and the result of a
        single search; --run-dir is then the parent of their folders. The --devices of all processes share the searches, not
        the batches.
      stop: rule that may end the search early: eigenvalue or adaptive_decay (RobustDARTS), skip_connections or stable_ranking
        (DARTS+), with settings as in `skip_connections:limit=3` (default: none).
      precision: type of the feature maps. With bfloat16, weights, batch statistics and losses stay float32.
      remat: compute the feature maps of a cell again in the backward pass instead of keeping them: less memory, more
        time.
      microbatches: number of parts of a batch, which a step computes one after the other in the memory of one. Each part is
        normalised by its own batch statistics, so the result differs a little from that of the whole batch.
      method: search method, a name for settings at its authors' values, which other options overrule.
      methods: how alphas act and move.
      supernet: what the method changes in the supernet.
      guards: what the search measures about itself.
      staging: the stages of the search.
      decision: how a selection on the supernet decides.
      budget: bounds on the network of the derived cells.
      data: the images.
      run: folder and seed.
      loop: epochs, logs and checkpoints.
      batches: size and order of the batches.
      augmentation: augmentation of the images.
      pictures: how large pictures become images.
      size: size of the supernet.
      weights: the weights' optimiser.
      rate: the weights' learning rate.
      alphas: the alphas' optimiser.
      norm: how activations are normalised.
      parallelism: the devices of a process.
      calls: how many steps a call of the compiled program takes.
      processes: the processes.
    """

    hypergradient: Hypergradient = "exact"
    neumann_terms: Annotated[int, SERIES_TERMS] = 2
    neumann_at: SeriesAt = "virtual"
    space: Annotated[str, tyro.conf.arg(metavar="SPACE"), Recorded(recorded_space)] = DARTS_SPACE
    nodes: Annotated[int, NODES] = 4
    output_nodes: Annotated[int | None, NODES, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    cell_kinds: CellKinds = "both"
    operations: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OPERATION ...")] = DARTS_PRIMITIVES
    edges_per_node: Annotated[int, Bounds(1, 1 + NODES.maximum)] = 2
    select: Annotated[str, _SELECT] = ARGMAX
    train_fraction: Annotated[float, WITHIN_ONE] = 0.5
    alpha_fraction: Annotated[float | None, WITHIN_ONE, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = None
    network: Stem = "cifar"
    seeds: Annotated[str | None, tyro.conf.arg(metavar="SEEDS", help_behavior_hint=""), WITHOUT_EFFECT] = None
    stop: Annotated[str | None, tyro.conf.arg(metavar="RULE", help_behavior_hint="")] = None
    method: Annotated[str, _PRESET] = DARTS
    precision: Precision = "float32"
    remat: Annotated[bool, WITHOUT_EFFECT] = False
    microbatches: Annotated[int, Bounds(1, 1_000_000)] = 1
    methods: MethodOptions = MethodOptions()
    supernet: SupernetOptions = SupernetOptions()
    guards: Guards = Guards()
    staging: StageOptions = StageOptions()
    decision: DecidingOptions = DecidingOptions()
    budget: BudgetOptions = BudgetOptions()
    data: ImageData = ImageData()
    run: Run = Run()
    loop: Loop = Loop()
    batches: ImageBatches = ImageBatches()
    augmentation: ImageAugmentation = ImageAugmentation()
    pictures: LargePictures = LargePictures()
    size: NetworkSize = NetworkSize()
    weights: WeightOptimizer = WeightOptimizer()
    rate: LearningRate = LearningRate(learning_rate_min=0.001)
    alphas: AlphaOptimizer = AlphaOptimizer()
    norm: BatchNorm = BatchNorm()
    parallelism: Parallelism = Parallelism()
    calls: Calls = Calls()
    processes: Processes = Processes()

    PRESETS: ClassVar = PRESETS

    def search_method(self) -> Method:
        """The search method that the settings describe."""
        method = self.staging.added_to(self.methods.method(), self.search_space)
        if self.select in SHARING:
            method = dataclasses.replace(method, mixture_name=RANDOM_CELLS)
        return self.supernet.added_to(method, channels=self.size.channels, clip=self.weights.clip)

    def deciding(self) -> Deciding | None:
        """The selection that scores the supernet after the epochs of the search; None for a rule on alphas."""
        options, rate = self.decision, self.decision.decision_learning_rate
        if self.select in SHARING:
            return SharedWeights(
                self.search_space,
                self.loop.epochs,
                BATCHES if options.decision_batches is None else options.decision_batches,
                SHARING[self.select],
                options.decision_candidates,
                options.finalists,
                self.edges_per_node,
            )
        if self.select != PERTURBATION:
            return None
        return Perturbation(
            self.search_space,
            self.loop.epochs,
            options.decision_epochs,
            options.decision_batches,
            options.decision_criterion,
            self.rate.learning_rate / 10 if rate is None else rate,
            self.edges_per_node,
        )

    @property
    def scores_by_batch(self) -> bool:
        """Whether the statistics of the batch normalise a supernet that is scored."""
        usual = "running" if self.select in SHARING else "batch"
        return (self.decision.decision_statistics or usual) == "batch"

    def check(self) -> None:
        """Checks every value that can be checked without the data.

        Raises:
          InputError: a value out of its range.
        """
        super().check()
        usual = type(self)(method=self.method)
        self.weights.check_use(usual.weights, self.rate.learning_rate)
        self.alphas.check_use(usual.alphas)
        if self.seeds is None:
            check_share(self.batches.batch_size, self.parallelism.devices, "--batch-size")
        else:
            self._check_seeds(self.seeds)
        self._check_microbatches()
        self._check_parts()
        check_stem(self.network, self.size.channels)
        self.pictures.check_use(self.data, self.network)
        check_stopping_rule(self.stop, self.searched_kinds)
        if self.seeds is not None and self.data.streams(self.network):
            raise InputError(
                f"--seeds is {self.seeds}, and the searches would share images in memory, but {self.data.dataset} is read "
                "picture by picture; start one search for each --seed"
            )
        if stopping_rule(self.stop) and self.seeds is not None:
            raise InputError(
                f"--stop {self.stop} may end each search after a different epoch, but --seeds runs all for the same number; "
                "leave one of the two out"
            )
        several = self.processes.cluster or self.processes.coordinator is not None
        if several and self.parallelism.parallel != "shard":
            raise InputError(f"--parallel {self.parallelism.parallel} is for one process; give shard")
        if self.precision == "bfloat16" and self.hypergradient == "finite_difference":
            raise InputError(
                "--precision bfloat16 does not work with --hypergradient finite_difference: the difference of two gradients "
                "is lost in the rounding to 8 bits of mantissa; give --hypergradient exact"
            )
        selection_by_name(self.select)
        self._check_extend()
        check_series(self.hypergradient, neumann_terms=self.neumann_terms, neumann_at=self.neumann_at)
        check_operations(self.operations, searchable_operations())
        self._check_space()
        self.search_space  # noqa: B018  (an impossible space is refused here, not after the data were read)
        self.search_method()  # Options that do not combine are refused here.
        if self.select != PERTURBATION:
            self.methods.check_epochs(self.loop.epochs)
        self._check_choice()
        self._check_deciding()
        if self.budget.bounds and self.select != ARGMAX:
            raise InputError(
                f"--select {self.select} does not keep bounds on the network; give --select {ARGMAX}, or leave "
                f"{option(BOUND_OPTIONS[next(iter(self.budget.bounds))])} out"
            )
        self.staging.check_use(preset(self.method))
        if self.staging.is_whole:
            self._check_stages()

    def _check_deciding(self) -> None:
        """Refuses what does not combine with a selection on the supernet, and settings that nothing reads."""
        for name, usual in flat(DecidingOptions()).items():
            value = getattr(self.decision, name)
            readers = [rule for rule, names in _DECISION_OPTIONS.items() if name in names]
            if value != usual and self.select not in readers:
                raise InputError(
                    f"{option(name)} is {value}, which --select {self.select} does not read; leave it out, or give --select "
                    f"{' or '.join(readers)}"
                )
        if not reads_decisions(self.select):
            return
        if self.select == PERTURBATION:
            check_space(self.search_space)
        if self.staging.stages != "none":
            raise InputError(
                f"--stages {self.staging.stages} leaves other operations to each stage by its alphas, and --select "
                f"{self.select} decides on one supernet; leave one of the two out"
            )
        if stopping_rule(self.stop):
            raise InputError(
                f"--stop {self.stop} ends a search at an epoch that nobody knows before, and --select {self.select} decides "
                "after the last of its --epochs; leave one of the two out"
            )
        if self.select in SHARING:
            self._check_sharing()

    def _check_extend(self) -> None:
        """Refuses more epochs where the search does something after the last one."""
        follows = {
            f"--stages {self.staging.stages}": self.staging.stages != "none",
            f"--select {self.select}": reads_decisions(self.select),
        }
        for given, depends in follows.items():
            if self.loop.extend and depends:
                raise InputError(
                    f"--extend gives a search more epochs, and {given} depends on which is the last; start another --run-dir"
                )
            if self.batches.change_batch_size and depends:
                raise InputError(
                    f"--change-batch-size gives a search epochs of another length, and {given} counts its steps from the "
                    "first one; start another --run-dir"
                )

    def _check_sharing(self) -> None:
        """Refuses what needs alphas, where random cells train the weights."""
        given = {**flat(self.methods), **flat(self.guards), "correlation": self.supernet.correlation}
        usual = {**flat(MethodOptions()), **flat(Guards()), "correlation": SupernetOptions().correlation}
        for name in _OF_ALPHAS:
            if given[name] != usual[name]:
                raise InputError(
                    f"{option(name)} is {given[name]}, and --select {self.select} trains the weights by random cells, without "
                    "alphas; leave one of the two out"
                )
        if self.hypergradient != "first_order":
            raise InputError(
                f"--hypergradient is {self.hypergradient}, and --select {self.select} moves no alphas; give first_order, or "
                f"--method {self.select}"
            )
        if self.edges_per_node != INPUTS:
            raise InputError(
                f"--edges-per-node is {self.edges_per_node}, and the random cells of --select {self.select} have {INPUTS}; leave "
                "it out"
            )

    def _check_stages(self) -> None:
        """Refuses what a search in stages cannot do, and checks every stage."""
        staging = self.staging
        stages, count = staging.stages, staging.count
        if self.seeds is not None:
            raise InputError(
                f"--stages {stages} runs the stages of one search, whose operations depend on the seed, and --seeds is "
                f"{self.seeds}; start one search for each --seed"
            )
        if stopping_rule(self.stop):
            raise InputError(
                f"--stop {self.stop} may end a stage early, and those of --stages {stages} are equally long"
            )
        if self.loop.epochs % count:
            raise InputError(
                f"--epochs is {self.loop.epochs}, which {count} stages share equally; give a multiple of {count}"
            )
        if self.methods.alphas_from >= self.loop.epochs // count:
            raise InputError(
                f"--alphas-from is {self.methods.alphas_from}, and each stage has {self.loop.epochs // count} epochs, so that "
                "no alphas move; give a smaller number, or more --epochs"
            )
        staging.check_operations(min(self.search_space.normal + self.search_space.reduce, key=len))
        if stages == "drnas":
            self._check_continuation()
        for number in range(1, count + 1):
            self.of_stage(number).check()

    def _check_continuation(self) -> None:
        """Refuses what does not continue with other operations and channels."""
        if self.methods.mixture not in ("softmax", "dirichlet") or self.methods.edge_weights:
            edges = " with --edge-weights" if self.methods.edge_weights else ""
            raise InputError(
                f"--stages drnas masks operations of the mixtures softmax and dirichlet, not of {self.methods.mixture}{edges}"
            )
        if self.supernet.freeze_below is not None:
            raise InputError(
                f"--freeze-below is {self.supernet.freeze_below}, and operations that have stopped do not stay so in the next "
                "stage of --stages drnas; leave one of the two out"
            )
        parts = [*self.staging.earlier_partial_channels, self.supernet.partial_channels]
        if sorted(parts, reverse=True) != parts:
            raise InputError(
                f"--earlier-partial-channels is {' '.join(map(str, parts[:-1]))} before --partial-channels {parts[-1]}, and "
                "a stage has no fewer channels than the one before; give numbers that do not grow"
            )

    def of_stage(self, number: int, operations: EdgeOperations | None = None) -> "SearchConfig":
        """The settings of one stage of a search in stages.

        Args:
          number: of the stage, from 1.
          operations: those of each edge, by kind of cell; None for all, as in the first stage.
        """
        staging = self.staging
        last = number == staging.count
        return dataclasses.replace(
            self,
            run_dir=self.folder if last else self.folder / stage_folder(number),
            epochs=self.loop.epochs // staging.count,
            stage=number,
            edge_operations=operations,
            **staging.of_stage(number),
        )

    @property
    def rate_epochs(self) -> tuple[int, int]:
        """The first epoch and the number of epochs of the learning rate's cosine, which the stages of DrNAS share."""
        staging, epochs = self.staging, self.loop.epochs
        if staging.stages == "drnas" and staging.stage:
            return (staging.stage - 1) * epochs, staging.count * epochs
        return 0, epochs

    def _check_choice(self) -> None:
        """Refuses settings that leave some alphas untrained, since that part of the genotype would be random."""
        if self.cell_kinds == "both" and "normal" not in self.kinds:
            raise InputError(
                f"--cells is {self.size.cells}, and networks of 1 or 2 cells have only reduction cells: nothing would train the "
                "alphas of the normal cell; give 3 or more, or --cell-kinds reduce to search the reduction cell alone"
            )
        if self.cell_kinds == "reduce" and self.size.cells > 2:
            raise InputError(
                f"--cell-kinds is reduce, and networks of {self.size.cells} cells have normal cells too; give --cells 1 or "
                "2, or leave --cell-kinds out"
            )
        if self.supernet.correlation and self.kinds.count("normal") < 2:
            mend = {"both": "give 4 or more", "normal": "give 2 or more", "reduce": "leave it out"}[self.cell_kinds]
            raise InputError(
                f"--correlation is {self.supernet.correlation}, which makes normal cells agree, and a network of --cells "
                f"{self.size.cells} has {'one' if 'normal' in self.kinds else 'none'}; {mend}"
            )
        if self.space == DARTS_SPACE:
            check_mixture(self.operations)
        nodes = self.search_space.nodes
        if self.edges_per_node > nodes + 1:
            raise InputError(
                f"--edges-per-node is {self.edges_per_node}, and the last of {nodes} nodes has {nodes + 1} edges; "
                f"give {nodes + 1} or less"
            )

    def _check_space(self) -> None:
        """Refuses nodes that do not fit, what stands beside a space that has its own, and a space without a choice."""
        if self.space == DARTS_SPACE:
            if self.output_nodes is not None and self.output_nodes > self.nodes:
                raise InputError(
                    f"--output-nodes is {self.output_nodes}, and --nodes {self.nodes}; give {self.nodes} or less"
                )
            return
        usual = {
            "nodes": (SearchConfig.nodes,),
            "output_nodes": (SearchConfig.output_nodes,),
            "operations": (DARTS_PRIMITIVES, preset(self.method).get("operations")),
        }
        for name, values in usual.items():
            if (given := getattr(self, name)) not in values:
                shown = " ".join(given) if isinstance(given, tuple) else given
                raise InputError(
                    f"{option(name)} is {shown}, and --space {self.space} has its own; leave one of the two out"
                )
        space = find_space(self.space)
        for kind in self.searched_kinds:
            if kind not in space.kinds:
                raise InputError(
                    f"--space {self.space} has no {CELL_NAMES[kind]}, and the network has such cells; give --cell-kinds "
                    f"{' or '.join(space.kinds)}"
                )
            if space.width(kind) < 2:
                raise InputError(
                    f"--space {self.space} has one operation on each edge of the {kind} cell, so that its alphas have nothing to "
                    "choose; give some edges two or more"
                )

    def _check_parts(self) -> None:
        alphas = self.alpha_fraction
        if alphas is not None and self.train_fraction + alphas > 1 + 1e-9:
            raise InputError(
                f"--train-fraction is {self.train_fraction} and --alpha-fraction {alphas}, which share no image; give numbers "
                "whose sum is 1 or less"
            )

    def _check_microbatches(self) -> None:
        share = self.batches.batch_size // (1 if self.seeds else self.parallelism.devices)
        if share % self.microbatches or share // self.microbatches < 2 <= self.microbatches:
            raise InputError(
                f"--microbatches is {self.microbatches}, and a device's share of --batch-size is {share}; give a number that "
                "divides it into parts of 2 or more"
            )

    def _check_seeds(self, seeds: str) -> None:
        listed = self.of_each_seed()
        if len({each.run.seed for each in listed}) < len(listed):
            raise InputError(f"--seeds is {seeds}, which names a seed twice; give each once")
        for each in listed:
            SEED.check("seed", each.run.seed)
        if self.parallelism.parallel == "pmap":
            raise InputError("--parallel pmap shares batches, and --seeds gives each device whole searches; give shard")
        check_share(len(listed), self.parallelism.devices, "--seeds")

    def of_each_seed(self) -> "tuple[SearchConfig, ...]":
        """The configurations of the searches in `seeds`, each for a single search.

        Raises:
          InputError: seeds that are not a list such as 0-3 or 0,2,5.
        """
        seeds: list[int] = []
        for part in (self.seeds or "").split(","):
            match = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?", part.strip())
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if last < first:
                raise InputError(f"--seeds is {self.seeds}; give seeds such as 0-3 or 0,2,5")
            if len(seeds) + last - first >= _MAX_SEEDS:
                raise InputError(f"--seeds is {self.seeds}; give {_MAX_SEEDS} seeds or less, such as 0-3 or 0,2,5")
            seeds += range(first, last + 1)
        alone = dataclasses.replace(self, seeds=None, devices=1)
        return tuple(
            dataclasses.replace(alone, seed=seed, run_dir=self.run.run_dir and self.run.run_dir / f"seed{seed}")
            for seed in seeds
        )

    @property
    def searched_kinds(self) -> tuple[CellKind, ...]:
        """The kinds of cells that the search finds."""
        return CELL_KINDS if self.cell_kinds == "both" else (self.cell_kinds,)

    @property
    def kinds(self) -> tuple[CellKind, ...]:
        """The kind of every cell of the network, in order."""
        return cell_kinds(self.size.cells, CELL_KINDS if "reduce" in self.searched_kinds else ("normal",))

    @property
    def search_space(self) -> SearchSpace:
        """The search space that the settings describe."""
        kinds = self.searched_kinds
        if self.space != DARTS_SPACE:
            absent: dict[str, Any] = {kind: () for kind in CELL_KINDS if kind not in kinds}
            return self.staging.space(dataclasses.replace(find_space(self.space), **absent))
        last = INPUT_STATES + self.nodes
        joined = range(last - (self.output_nodes or self.nodes), last)
        return self.staging.space(uniform_space(self.operations, nodes=self.nodes, concat=joined, kinds=kinds))

    @property
    def folder(self) -> Path:
        """The run's folder. The same settings give the same folder, so the same command resumes its run."""
        return self.run.folder("search", self.data.label, *self.method_words, self.hypergradient)

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON data."""
        return as_json(self) | {"dataset": self.data.name}


#: The settings of `DecidingOptions` that a rule reads.
_DECISION_OPTIONS: Mapping[str, tuple[str, ...]] = {
    PERTURBATION: (
        "decision_epochs",
        "decision_batches",
        "decision_criterion",
        "decision_learning_rate",
        "decision_statistics",
    ),
    **dict.fromkeys(SHARING, ("decision_batches", "decision_statistics", "decision_candidates", "decision_finalists")),
}

#: Settings that nothing reads in a search without alphas.
_OF_ALPHAS = (
    "mixture",
    "edge_weights",
    "penalty",
    "perturbation",
    "alphas_from",
    "weight_steps",
    "step_order",
    "alphas_on",
    "alpha_clip",
    "correlation",
    "eigenvalue_every",
    "foresight_every",
)

#: Largest number of searches that run at once.
_MAX_SEEDS = 1024
