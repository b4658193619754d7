"""The part of a search's configuration that says how a selection on the supernet decides, after the search's own epochs."""

import dataclasses
from typing import Annotated, Literal

import tyro

from jdarts.methods.perturbation_selection import EPOCHS_BETWEEN, Criterion
from jdarts.runs.bounds import EPOCHS, NOT_NEGATIVE, Bounds
from jdarts.runs.settings import Settings

_All = tyro.conf.arg(metavar="INT", help_behavior_hint="(default: all whole batches)")
_Tenth = tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: a tenth of --learning-rate)")


@dataclasses.dataclass(frozen=True)
class DecidingOptions(Settings):
    """How --select perturbation (DARTS-PT) decides after the --epochs of the search.

    Rounds of decisions alternate with training. The supernet is scored on the alphas' half, without augmentation.

    Attributes:
      decision_epochs: epochs of training between two rounds.
      decision_batches: batches that score a supernet.
      decision_criterion: what compares supernets.
      decision_learning_rate: the weights' learning rate between the rounds.
      decision_statistics: the statistics that normalise a supernet that is scored. batch: those of the batch.
    """

    decision_epochs: Annotated[int, EPOCHS] = EPOCHS_BETWEEN
    decision_batches: Annotated[int | None, Bounds(1, 1_000_000), _All] = None
    decision_criterion: Criterion = "accuracy"
    decision_learning_rate: Annotated[float | None, NOT_NEGATIVE, _Tenth] = None
    decision_statistics: Literal["batch", "running"] = "batch"
