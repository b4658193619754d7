"""What a search is told: one frozen dataclass, which is also the command line."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

from jdarts import bilevel
from jdarts.errors import InputError
from jdarts.space import DARTS_PRIMITIVES, SearchSpace, uniform_space

Hypergradient = Literal["exact", "finite_difference", "first_order"]


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """Settings of a search. The defaults are the paper's for CIFAR-10 (section 3.1.1 and its reference code).

    Attributes:
      dataset: one of jdarts.data.NAMES.
      data_dir: where tensorflow-datasets keeps its data (default: TFDS_DATA_DIR, or ~/tensorflow_datasets).
      run_dir: folder of the run (default: runs/search-DATASET-HYPERGRADIENT-seedSEED).
      hypergradient: exact and finite_difference are second order; first_order leaves the unrolled step out.
      epochs: passes over the weights' half of the training set.
      batch_size: images of a batch, one of each half a step.
      channels: channels of the first cells; each reduction doubles them.
      cells: number of cells; those at 1/3 and 2/3 of the depth are reduction cells.
      nodes: nodes of a cell.
      operations: candidate operations of every edge.
      learning_rate: of the weights in the first epoch.
      learning_rate_min: where the cosine would end after the last epoch.
      momentum: of the weights' SGD.
      weight_decay: L2 penalty on the weights.
      clip: largest global norm of a weight gradient.
      alpha_learning_rate: Adam step size of the alphas.
      alpha_b1: decay of Adam's first moment.
      alpha_b2: decay of Adam's second moment.
      alpha_weight_decay: L2 penalty on the alphas, inside Adam.
      train_fraction: share of the training set that trains weights; the rest trains alphas.
      padding: pixels around an image before the random crop (default: the data set's).
      flip: mirror half of the images (default: the data set's).
      cutout: side of the square that is cut out of each image; 0 for none.
      edges_per_node: edges that derivation keeps for each node.
      seed: of everything that is random.
      log_every: steps between two records in metrics.jsonl.
      checkpoint_minutes: minutes between two checkpoints within an epoch; each epoch ends with one.
      keep_checkpoints: checkpoints to leave on disk.
      images_on: where the images live. auto: on the device if they take at most a quarter of its memory.
    """

    dataset: str = "cifar10"
    data_dir: Path | None = None
    run_dir: Path | None = None
    hypergradient: Hypergradient = "exact"
    epochs: int = 50
    batch_size: int = 64
    channels: int = 16
    cells: int = 8
    nodes: int = 4
    operations: tuple[str, ...] = DARTS_PRIMITIVES
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
    padding: int | None = None
    flip: bool | None = None
    cutout: int = 0
    edges_per_node: int = 2
    seed: int = 0
    log_every: int = 10
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 3
    images_on: Literal["auto", "device", "host"] = "auto"

    def __post_init__(self) -> None:
        """Checks every value that can be checked without the data.

        Raises:
          InputError: a value out of its range.
        """
        at_least = {"epochs": 1, "batch_size": 2, "channels": 1, "cells": 1, "nodes": 1, "edges_per_node": 1}
        at_least |= {"log_every": 1, "keep_checkpoints": 2, "cutout": 0, "seed": 0, "padding": 0}
        for name, least in at_least.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{_option(name)} is {value}; give {least} or more")
        positive = ("learning_rate", "clip", "alpha_learning_rate", "checkpoint_minutes")
        for name in positive:
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{_option(name)} is {getattr(self, name)}; give a number above 0")
        for name in ("weight_decay", "alpha_weight_decay", "learning_rate_min"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{_option(name)} is {getattr(self, name)}; give 0 or more")
        for name in ("momentum", "alpha_b1", "alpha_b2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{_option(name)} is {getattr(self, name)}; give a number from 0 to below 1")
        if not 0 < self.train_fraction < 1:
            raise InputError(f"--train-fraction is {self.train_fraction}; give a number between 0 and 1")
        if self.seed >= 2**32:
            raise InputError(f"--seed is {self.seed}; give a number below 2^32")
        self.space  # noqa: B018  (an impossible space is refused here, not after the data were read)

    @property
    def space(self) -> SearchSpace:
        """The search space that the settings describe."""
        return uniform_space(self.operations, nodes=self.nodes)

    @property
    def folder(self) -> Path:
        """The run's folder. The same settings give the same folder, so that the same command goes on with its run."""
        return self.run_dir or Path("runs") / f"search-{self.dataset}-{self.hypergradient}-seed{self.seed}"

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON data."""
        fields = dataclasses.asdict(self)
        for name in _WITHOUT_EFFECT:
            del fields[name]
        return json.loads(json.dumps(fields))


#: Settings that may differ between two starts of one run: its result does not depend on them.
_WITHOUT_EFFECT = ("data_dir", "run_dir", "log_every", "checkpoint_minutes", "keep_checkpoints", "images_on")


def hypergradient_named(name: Hypergradient, virtual_optimizer: Any) -> bilevel.HypergradientFn:
    """The estimator of this name, with the optimiser of the virtual step."""
    if name == "first_order":
        return bilevel.first_order()
    if name == "finite_difference":
        return bilevel.finite_difference(virtual_optimizer=virtual_optimizer)
    return bilevel.exact(virtual_optimizer=virtual_optimizer)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
