"""The part of a search's configuration that says how a selection on the supernet decides, after the search's own epochs."""

import dataclasses
from typing import Annotated, Literal

import tyro

from jdarts.baselines.weight_sharing import CANDIDATES, FINALISTS
from jdarts.methods.perturbation_selection import EPOCHS_BETWEEN, Criterion
from jdarts.runs.bounds import EPOCHS, NOT_NEGATIVE, Bounds
from jdarts.runs.settings import Settings

_All = tyro.conf.arg(metavar="INT", help_behavior_hint="(default: all whole batches; 10 for candidates)")
_Tenth = tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: a tenth of the search's)")

_Statistics = tyro.conf.arg(metavar="{batch,running}", help_behavior_hint="(default: batch; running for candidates)")


@dataclasses.dataclass(frozen=True)
class DecidingOptions(Settings):
    """How a selection on the supernet decides after the --epochs of the search: by scores on the alphas' half, not augmented.

    Attributes:
      decision_epochs: epochs of training between two rounds of decisions of --select perturbation (DARTS-PT).
      decision_batches: batches that score a supernet.
      decision_criterion: what compares supernets for --select perturbation.
      decision_learning_rate: the weights' learning rate between the rounds of --select perturbation.
      decision_statistics: the statistics that normalise a supernet that is scored. batch: those of the batch.
      decision_candidates: cells that shared weights score on some batches, for --select random_sharing, evolution_sharing and
        reinforce_sharing; with 20,000 steps and more as many again for every 10,000.
      decision_finalists: the best of them, which all batches score.
    """

    decision_epochs: Annotated[int, EPOCHS] = EPOCHS_BETWEEN
    decision_batches: Annotated[int | None, Bounds(1, 1_000_000), _All] = None
    decision_criterion: Criterion = "accuracy"
    decision_learning_rate: Annotated[float | None, NOT_NEGATIVE, _Tenth] = None
    decision_statistics: Annotated[Literal["batch", "running"] | None, _Statistics] = None
    decision_candidates: Annotated[int, Bounds(1, 10_000_000)] = CANDIDATES
    decision_finalists: Annotated[int, Bounds(1, 1_000_000)] = FINALISTS

    @property
    def finalists(self) -> int:
        """The finalists, no more than there are candidates."""
        return min(self.decision_finalists, self.decision_candidates)
