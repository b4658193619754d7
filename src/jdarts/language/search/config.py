"""What a search on text is told: one frozen dataclass, which is also the command line."""

import dataclasses
import difflib
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jdarts.errors import InputError
from jdarts.language.settings import LanguageConfig
from jdarts.runs.devices import BatchStatistics
from jdarts.runs.settings import check_at_least, check_below_one, check_not_negative, check_positive
from jdarts.space import RECURRENT_PRIMITIVES, RecurrentSpace, recurrent_space

Hypergradient = Literal["exact", "finite_difference", "reference", "first_order"]
Statistics = Literal["running", "batch"]


@dataclasses.dataclass(frozen=True)
class LanguageSearchConfig(LanguageConfig):
    """Settings of a search for a recurrent cell. The defaults are the paper's for Penn Treebank (section 3.1.2, reference code).

    Attributes:
      hypergradient: how the alphas see the weights' step. exact: the derivative of the step that is taken;
        finite_difference: the paper's estimate, the clip coefficient held constant; reference: the same as the authors'
        code computes it; first_order leaves the step out.
      nodes: nodes of the cell.
      operations: candidate operations of every edge.
      alpha_learning_rate: Adam's step size for the alphas.
      alpha_b1: decay of Adam's first moment.
      alpha_b2: decay of Adam's second moment.
      alpha_weight_decay: L2 penalty on the alphas, inside Adam.
      evaluation_statistics: what normalises the cell in evaluation. running: as in the authors' code, one set for all nodes and
        positions, which fits none of them well; batch: those of the columns that are read side by side.
      batch_statistics: what normalises a batch on several devices. synchronised: the statistics of the whole batch;
        per_device: each device its share by that share's own; running statistics are the mean of the devices'.
    """

    batch_size: int = 256
    hypergradient: Hypergradient = "exact"
    nodes: int = 8
    operations: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OPERATION ...")] = RECURRENT_PRIMITIVES
    alpha_learning_rate: float = 3e-3
    alpha_b1: float = 0.9
    alpha_b2: float = 0.999
    alpha_weight_decay: float = 1e-3
    evaluation_statistics: Statistics = "running"
    batch_statistics: BatchStatistics = "synchronised"

    def check(self) -> None:
        """As the base class, and an impossible space.

        Raises:
          InputError: a value out of its range.
        """
        super().check()
        # Batch norm takes statistics over the columns.
        check_at_least(self, {"batch_size": 2, "nodes": 1})
        if self.evaluation_statistics == "batch":
            check_at_least(self, {"evaluation_batch_size": 2})
        check_positive(self, ("alpha_learning_rate",))
        check_not_negative(self, ("alpha_weight_decay",))
        check_below_one(self, ("alpha_b1", "alpha_b2"))
        for name in self.operations:
            if name not in RECURRENT_PRIMITIVES:
                near = difflib.get_close_matches(name, RECURRENT_PRIMITIVES, n=1)
                guess = f"did you mean {near[0]}? " if near else ""
                raise InputError(
                    f"--operations names {name}; {guess}The operations are {', '.join(RECURRENT_PRIMITIVES)}"
                )
        self.space  # noqa: B018  (an impossible space is refused here, not after the text was read)

    @property
    def space(self) -> RecurrentSpace:
        """The search space that the settings describe."""
        return recurrent_space(self.operations, nodes=self.nodes)

    @property
    def folder(self) -> Path:
        """The run's folder. The same settings give the same folder, so that the same command goes on with its run."""
        return self.run_dir or Path("runs") / f"search-{self.dataset}-{self.hypergradient}-seed{self.seed}"
