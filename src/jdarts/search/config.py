"""What a search is told: one frozen dataclass, which is also the command line."""

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jdarts import bilevel
from jdarts.errors import InputError
from jdarts.methods.stopping import stopping_rule
from jdarts.operations import searchable_operations
from jdarts.runs.devices import BatchStatistics, Parallel, check_devices, check_share
from jdarts.runs.images import ImagesOn
from jdarts.runs.processes import check_launch
from jdarts.runs.settings import (
    BELOW_ONE,
    CELLS,
    CHANNELS,
    CUTOUT,
    NODES,
    NOT_NEGATIVE,
    PADDING,
    POSITIVE,
    RUN_BOUNDS,
    SEED,
    WITHIN_ONE,
    WITHOUT_EFFECT,
    Bounds,
    Folder,
    FromDataset,
    as_json,
    check_dataset_name,
    check_settings,
    folder_name,
)
from jdarts.space import (
    DARTS_PRIMITIVES,
    SearchSpace,
    cell_kinds,
    check_mixture,
    check_operations,
    uniform_space,
)

Hypergradient = Literal["exact", "finite_difference", "first_order"]
Precision = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """Settings of a search. The defaults are the paper's for CIFAR-10 (section 3.1.1 and its reference code).

    Attributes:
      dataset: the images: digits, cifar10, cifar100, fashion_mnist or svhn. All but digits are to be prepared first
        with `python -m jdarts.data prepare NAME`.
      data_dir: where prepared images lie (default: TFDS_DATA_DIR, or ~/tensorflow_datasets).
      run_dir: folder that gets everything the run leaves behind; a folder with an interrupted run is gone on with
        (default: runs/search-DATASET-HYPERGRADIENT-seedSEED).
      hypergradient: how the alphas see the weights' step. exact and finite_difference are second order; first_order
        leaves the step out.
      epochs: passes over the images that train the weights.
      batch_size: images of a batch; a step takes one to train weights and one to train alphas.
      channels: channels of the first cells; each reduction doubles them.
      cells: number of cells, 3 or more; those at 1/3 and 2/3 of the depth are reduction cells.
      nodes: nodes of a cell.
      operations: candidate operations of every edge.
      learning_rate: step size of the weights in the first epoch.
      learning_rate_min: where the cosine of the weights' step size would end after the last epoch.
      momentum: momentum of the weights' SGD.
      weight_decay: L2 penalty on the weights.
      clip: largest global norm of the weights' gradient.
      alpha_learning_rate: Adam's step size for the alphas.
      alpha_b1: decay of Adam's first moment.
      alpha_b2: decay of Adam's second moment.
      alpha_weight_decay: L2 penalty on the alphas, inside Adam.
      train_fraction: share of the training set that trains weights; the rest trains alphas.
      split_seed: seed of the split into the images of the weights and those of the alphas, which are shuffled and have each
        their share of every class (default: the order of the set where that has no pattern, as CIFAR-10's; else 0).
      padding: pixels put around an image before it is cropped at random.
      flip: mirror half of the images.
      cutout: side of the square that is cut out of each image; 0 for none.
      edges_per_node: edges that derivation keeps for each node.
      seed: seed of everything that is random.
      seeds: seeds of several searches that run as one, such as 0-3 or 0,2,5. Each has a folder of its own and finds what it
        finds alone; --run-dir is then the folder of their folders. The --devices of all processes share the searches, not the
        batches.
      log_every: steps between two records in metrics.jsonl.
      checkpoint_minutes: minutes between two checkpoints within an epoch; each epoch ends with one.
      keep_checkpoints: checkpoints to leave on disk.
      images_on: where the images live. auto: on the device if they take at most a quarter of its memory.
      devices: devices that share each batch. The result does not depend on their number, up to rounding, unless batch
        statistics are per_device.
      parallel: how the step is spread over several devices: jax.pmap, or shard_map on a mesh. jit is for one.
      batch_statistics: what normalises a batch on several devices. synchronised: the statistics of the whole batch;
        per_device: each device its share by that share's own, as in the reference implementation; running statistics
        are the mean of the devices'.
      cluster: this process is one of several that SLURM, Kubernetes, Open MPI or a Cloud TPU has started; JAX finds the
        others. All share the run's folder; --devices are then those of each process.
      coordinator: HOST:PORT of process 0, where no such system has started the processes.
      num_processes: how many there are.
      process_id: which of them this one is, from 0.
      stop: rule that may end the search early, by its name in `jdarts.methods.stopping.RULES` (default: none).
      precision: type of the feature maps. With bfloat16, weights, batch statistics and losses stay float32.
      remat: compute the feature maps of a cell again in the backward pass instead of keeping them: less memory, more
        time.
      microbatches: parts of a batch that a step takes one after the other, in the memory of one. Each part is normalised by
        its own batch statistics, so that the result is not quite that of the whole batch.
    """

    dataset: str = "cifar10"
    data_dir: Annotated[Path | None, Folder] = None
    run_dir: Annotated[Path | None, Folder] = None
    hypergradient: Hypergradient = "exact"
    epochs: int = 50
    batch_size: int = 64
    channels: int = 16
    cells: int = 8
    nodes: int = 4
    operations: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OPERATION ...")] = DARTS_PRIMITIVES
    learning_rate: float = 0.025
    learning_rate_min: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    alpha_learning_rate: float = 3e-4
    alpha_b1: float = 0.5
    alpha_b2: float = 0.999
    alpha_weight_decay: float = 1e-3
    train_fraction: float = 0.5
    split_seed: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    padding: Annotated[int | None, tyro.conf.arg(metavar="INT"), FromDataset] = None
    flip: Annotated[bool | None, FromDataset] = None
    cutout: int = 0
    edges_per_node: int = 2
    seed: int = 0
    seeds: Annotated[str | None, tyro.conf.arg(metavar="SEEDS", help_behavior_hint="")] = None
    log_every: int = 10
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 3
    images_on: ImagesOn = "auto"
    devices: int = 1
    parallel: Parallel = "shard"
    batch_statistics: BatchStatistics = "synchronised"
    cluster: bool = False
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT", help_behavior_hint="")] = None
    num_processes: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    process_id: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    stop: Annotated[str | None, tyro.conf.arg(metavar="RULE", help_behavior_hint="")] = None
    precision: Precision = "float32"
    remat: bool = False
    microbatches: int = 1

    def check(self) -> None:
        """Checks every value that can be checked without the data.

        It is no part of the construction, where the command line would wrap its message.

        Raises:
          InputError: a value out of its range.
        """
        check_settings(self, _BOUNDS)
        check_dataset_name(self.dataset)
        if self.seeds is None:
            check_devices(self)
        else:
            self._check_seeds(self.seeds)
        self._check_microbatches()
        if stopping_rule(self.stop) and self.seeds is not None:
            raise InputError(
                f"--stop {self.stop} may end each search after an epoch of its own, and --seeds runs all to the same one; "
                "leave one of the two out"
            )
        check_launch(self)
        if (self.cluster or self.coordinator is not None) and self.parallel != "shard":
            raise InputError(f"--parallel {self.parallel} is for one process; give shard")
        if self.precision == "bfloat16" and self.hypergradient == "finite_difference":
            raise InputError(
                "--precision bfloat16 and --hypergradient finite_difference do not go together: the difference of two gradients "
                "over 2ε drowns in the rounding of 8 bits of mantissa; give --hypergradient exact"
            )
        check_operations(self.operations, searchable_operations())
        self.space  # noqa: B018  (an impossible space is refused here, not after the data were read)
        self._check_choice()

    def _check_choice(self) -> None:
        """Refuses settings under which some alphas decide nothing, and a genotype would show what chance has made of them."""
        if "normal" not in cell_kinds(self.cells):
            raise InputError(
                f"--cells is {self.cells}, and networks of 1 or 2 cells have reduction cells alone: nothing would teach the "
                "alphas of the normal cell; give 3 or more"
            )
        check_mixture(self.operations)
        if self.edges_per_node > self.nodes + 1:
            raise InputError(
                f"--edges-per-node is {self.edges_per_node}, and the last of {self.nodes} nodes has {self.nodes + 1} edges; "
                f"give {self.nodes + 1} or less"
            )

    def _check_microbatches(self) -> None:
        share = self.batch_size // (1 if self.seeds else self.devices)
        if share % self.microbatches or share // self.microbatches < 2 <= self.microbatches:
            raise InputError(
                f"--microbatches is {self.microbatches}, and a device's share of --batch-size is {share}; give a number that "
                "divides it into parts of 2 or more"
            )

    def _check_seeds(self, seeds: str) -> None:
        listed = self.of_each_seed()
        if len({each.seed for each in listed}) < len(listed):
            raise InputError(f"--seeds is {seeds}, which names a seed twice; give each once")
        for each in listed:
            SEED.check("seed", each.seed)
        if self.parallel == "pmap":
            raise InputError("--parallel pmap shares batches, and --seeds gives each device whole searches; give shard")
        check_share(len(listed), self.devices, "--seeds")

    def of_each_seed(self) -> "tuple[SearchConfig, ...]":
        """The searches that `seeds` names, each as it is alone.

        Raises:
          InputError: seeds that are not a list such as 0-3 or 0,2,5.
        """
        seeds: list[int] = []
        for part in (self.seeds or "").split(","):
            match = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?", part.strip())
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if last < first:
                raise InputError(f"--seeds is {self.seeds}; give seeds such as 0-3 or 0,2,5")
            if len(seeds) + last - first >= _MOST_SEEDS:
                raise InputError(f"--seeds is {self.seeds}; give {_MOST_SEEDS} seeds or less, such as 0-3 or 0,2,5")
            seeds += range(first, last + 1)
        alone = dataclasses.replace(self, seeds=None, devices=1)
        return tuple(
            dataclasses.replace(alone, seed=seed, run_dir=self.run_dir and self.run_dir / f"seed{seed}")
            for seed in seeds
        )

    @property
    def space(self) -> SearchSpace:
        """The search space that the settings describe."""
        return uniform_space(self.operations, nodes=self.nodes)

    @property
    def folder(self) -> Path:
        """The run's folder. The same settings give the same folder, so that the same command goes on with its run."""
        return self.run_dir or Path("runs") / f"search-{folder_name(self.dataset)}-{self.hypergradient}-seed{self.seed}"

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON data."""
        return as_json(self, without=(*WITHOUT_EFFECT, "seeds", "remat"))


#: Searches that run as one.
_MOST_SEEDS = 1024

_BOUNDS = {
    **RUN_BOUNDS,
    "batch_size": Bounds(2, 1_000_000),
    "channels": CHANNELS,
    "cells": CELLS,
    "nodes": NODES,
    "learning_rate": POSITIVE,
    "learning_rate_min": NOT_NEGATIVE,
    "momentum": BELOW_ONE,
    "weight_decay": NOT_NEGATIVE,
    "clip": POSITIVE,
    "alpha_learning_rate": POSITIVE,
    "alpha_b1": BELOW_ONE,
    "alpha_b2": BELOW_ONE,
    "alpha_weight_decay": NOT_NEGATIVE,
    "train_fraction": WITHIN_ONE,
    "split_seed": SEED,
    "padding": PADDING,
    "cutout": CUTOUT,
    "edges_per_node": Bounds(1, 1 + NODES.most),
    "microbatches": Bounds(1, 1_000_000),
    "num_processes": Bounds(1, 65_536),
    "process_id": Bounds(0, 65_535),
}


def hypergradient_named(name: Hypergradient, virtual_optimizer: Any) -> bilevel.HypergradientFn:
    """The estimator of this name, with the optimiser of the virtual step."""
    if name == "first_order":
        return bilevel.first_order()
    if name == "finite_difference":
        return bilevel.finite_difference(virtual_optimizer=virtual_optimizer)
    return bilevel.exact(virtual_optimizer=virtual_optimizer)
