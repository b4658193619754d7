"""What a search on text is told: one frozen dataclass, which is also the command line."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jdarts.language.settings import COLUMNS, LanguageConfig
from jdarts.operations import searchable_activations
from jdarts.runs.devices import BatchStatistics
from jdarts.runs.settings import BELOW_ONE, NODES, NOT_NEGATIVE, POSITIVE, Bounds, folder_name
from jdarts.space import RECURRENT_PRIMITIVES, RecurrentSpace, check_mixture, check_operations, recurrent_space

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
        check_operations(self.operations, searchable_activations())
        self.space  # noqa: B018  (an impossible space is refused here, not after the text was read)
        check_mixture(self.operations)

    def bounds(self) -> Mapping[str, Bounds]:
        """Those of the alphas' numbers, and of the columns over which batch norm takes statistics."""
        statistics = {"evaluation_batch_size": _TWO_COLUMNS} if self.evaluation_statistics == "batch" else {}
        return {**_BOUNDS, **statistics}

    @property
    def space(self) -> RecurrentSpace:
        """The search space that the settings describe."""
        return recurrent_space(self.operations, nodes=self.nodes)

    @property
    def folder(self) -> Path:
        """The run's folder. The same settings give the same folder, so that the same command goes on with its run."""
        return self.run_dir or Path("runs") / f"search-{folder_name(self.dataset)}-{self.hypergradient}-seed{self.seed}"


_TWO_COLUMNS = COLUMNS._replace(least=2)

_BOUNDS = {
    "batch_size": _TWO_COLUMNS,
    "nodes": NODES,
    "alpha_learning_rate": POSITIVE,
    "alpha_b1": BELOW_ONE,
    "alpha_b2": BELOW_ONE,
    "alpha_weight_decay": NOT_NEGATIVE,
}
