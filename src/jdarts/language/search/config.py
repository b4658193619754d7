"""The settings of a search on text, which are also its command line."""

import dataclasses
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from jdarts.language.options import COLUMNS, TextBatches
from jdarts.language.settings import LanguageConfig
from jdarts.methods.method import Method
from jdarts.methods.presets import DARTS, TEXT_PRESETS
from jdarts.methods.stopping import check_stopping_rule
from jdarts.operations import searchable_activations
from jdarts.relaxation import RECURRENT
from jdarts.runs.bounds import NODES
from jdarts.runs.guards import Guards
from jdarts.runs.method_options import SERIES_TERMS, MethodConfiguration, MethodOptions, SeriesAt, check_series
from jdarts.runs.names import folder_name
from jdarts.runs.options import AlphaOptimizer, BatchNorm, Calls
from jdarts.space import RECURRENT_PRIMITIVES, RecurrentSpace, check_mixture, check_operations, recurrent_space

Hypergradient = Literal["exact", "finite_difference", "reference", "first_order", "neumann"]
Statistics = Literal["running", "batch"]

_PRESET = tyro.conf.arg(metavar="{" + ",".join(TEXT_PRESETS) + "}")


@dataclasses.dataclass(frozen=True, init=False)
class LanguageSearchConfig(MethodConfiguration, LanguageConfig):
    """Settings of a search for a recurrent cell. The defaults are the paper's for Penn Treebank (section 3.1.2, reference code).

    A run's folder, where --run-dir names none, is runs/search-DATASET-HYPERGRADIENT-seedSEED.

    Attributes:
      hypergradient: estimator of the alphas' gradient through the weights' step. exact: the derivative of that step;
        finite_difference: the paper's estimate, with a constant clip coefficient; reference: the same estimate, as the
        authors' code computes it; first_order ignores the step; neumann: of several steps, by a truncated series (iDARTS).
      neumann_terms: terms of the series after the first.
      neumann_at: the weights at which the validation loss is taken. virtual: after one step, as for exact; present: those that
        the steps before have led to (iDARTS).
      nodes: number of nodes of the cell.
      operations: candidate operations of every edge.
      evaluation_statistics: statistics that normalise the cell in evaluation. running: as in the authors' code, one set for all
        nodes and positions, which fits none of them well; batch: those of the parallel columns.
      alphas: the alphas' optimiser.
      norm: how activations are normalised.
      stop: rule that may end the search early: eigenvalue or adaptive_decay (RobustDARTS), skip_connections or stable_ranking
        (DARTS+), with settings as in `skip_connections:kind=recurrent,limit=3` (default: none).
      calls: how many steps a call of the compiled program takes.
      method: search method, a name for settings that other options overrule.
      methods: how alphas act and move.
      guards: what the search measures about itself.
    """

    hypergradient: Hypergradient = "exact"
    neumann_terms: Annotated[int, SERIES_TERMS] = 2
    neumann_at: SeriesAt = "virtual"
    nodes: Annotated[int, NODES] = 8
    operations: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OPERATION ...")] = RECURRENT_PRIMITIVES
    evaluation_statistics: Statistics = "running"
    batches: TextBatches = TextBatches(batch_size=256)
    alphas: AlphaOptimizer = AlphaOptimizer(alpha_learning_rate=3e-3, alpha_b1=0.9)
    norm: BatchNorm = BatchNorm()
    stop: Annotated[str | None, tyro.conf.arg(metavar="RULE", help_behavior_hint="")] = None
    calls: Calls = Calls()
    method: Annotated[str, _PRESET] = DARTS
    methods: MethodOptions = MethodOptions()
    guards: Guards = Guards()

    PRESETS: ClassVar = TEXT_PRESETS

    def search_method(self) -> Method:
        """The search method that the settings describe."""
        return self.methods.method()

    def check(self) -> None:
        """As the base class; also refuses an impossible space.

        Raises:
          InputError: a value out of its range.
        """
        super().check()
        # Batch norm computes statistics over the columns.
        _TWO_OR_MORE.check("batch_size", self.batches.batch_size)
        if self.evaluation_statistics == "batch":
            _TWO_OR_MORE.check("evaluation_batch_size", self.batches.evaluation_batch_size)
        self.alphas.check_use(type(self)(method=self.method).alphas)
        self.search_method()
        self.methods.check_epochs(self.loop.epochs)
        check_stopping_rule(self.stop, (RECURRENT,))
        check_series(self.hypergradient, neumann_terms=self.neumann_terms, neumann_at=self.neumann_at)
        check_operations(self.operations, searchable_activations())
        self.space  # noqa: B018  (an impossible space is refused here, not after the text was read)
        check_mixture(self.operations)

    @property
    def space(self) -> RecurrentSpace:
        """The search space that the settings describe."""
        return recurrent_space(self.operations, nodes=self.nodes)

    @property
    def folder(self) -> Path:
        """The run's folder. The same settings give the same folder, so the same command resumes its run."""
        return self.run.folder("search", folder_name(self.text.dataset), *self.method_words, self.hypergradient)


_TWO_OR_MORE = COLUMNS._replace(minimum=2)
