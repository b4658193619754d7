"""The budget of a search: from its settings or its checkpoints, and what it does at the end of an epoch."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jdarts import checkpoint
from jdarts.budget.amounts import amount_text
from jdarts.budget.bounded import bounded_cells
from jdarts.budget.budget import Budget, budget
from jdarts.budget.cost import Limit, limits_of
from jdarts.budget.penalty import Multipliers, next_multipliers
from jdarts.derivation import derive_genotype
from jdarts.genotype import Genotype
from jdarts.relaxation import Alphas, Mixture
from jdarts.runs.folder import RunFolder
from jdarts.search.config import SearchConfig
from jdarts.space import CELL_KINDS, SearchSpace


@dataclasses.dataclass(frozen=True)
class SearchBudget:
    """The budget of a search.

    Attributes:
      budget: the bounds.
      space: the search space.
      mixture: how the alphas become weights.
      edges_per_node: edges that derivation keeps for each node.
      rate: as for `jdarts.budget.penalty.next_multipliers`; 0 for no penalty.
      first_epoch: first epoch, counted from 0, after which the multipliers change: the alphas stand still before it.
    """

    budget: Budget
    space: SearchSpace
    mixture: Mixture
    edges_per_node: int
    rate: float
    first_epoch: int = 0

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The bounds."""
        return self.budget.limits

    @property
    def penalised(self) -> tuple[Limit, ...]:
        """The bounds with a penalty on the alphas."""
        return self.limits if self.rate > 0 else ()

    def free(self, alphas: Alphas) -> Genotype:
        """The cells that the alphas derive without bounds."""
        return derive_genotype(alphas, self.space, edges_per_node=self.edges_per_node, mixture=self.mixture)

    def after_epoch(self, multipliers: Multipliers, alphas: Alphas, epoch: int) -> dict[str, Any]:
        """The multipliers of one run after an epoch, which is counted from 0."""
        if epoch < self.first_epoch:
            return {name: np.float32(value) for name, value in multipliers.items()}
        return next_multipliers(multipliers, self.penalised, self.free(alphas), self.space, self.rate)

    def numbers(self, genotype: Genotype, alphas: Alphas, multipliers: Multipliers) -> dict[str, float]:
        """The numbers of one run's epoch: costs of its cells, of those without bounds, and the multipliers."""
        free = self.free(alphas)
        found: dict[str, float] = {}
        for cost, _ in self.limits:
            found[f"budget/{cost.measure}"] = float(cost.of(genotype, self.space))
            found[f"budget/{cost.measure}_without_bounds"] = float(cost.of(free, self.space))
        return found | {f"budget/multiplier_{name}": float(value) for name, value in multipliers.items()}

    def result(self, genotype: Genotype, alphas: Alphas) -> dict[str, Any]:
        """How the cells stand against the bounds, for the summary: lines of text, and numbers by measure."""
        free = self.free(alphas)
        numbers = {
            cost.measure: {
                "most": most,
                "cost": cost.of(genotype, self.space),
                "without_bounds": cost.of(free, self.space),
            }
            for cost, most in self.limits
        }
        return {"text": self.budget.words(genotype, self.space, free), "budget": numbers}

    def line(self, alphas: Alphas, multipliers: Multipliers) -> str:
        """What the alphas alone would derive, for the display."""
        free, parts = self.free(alphas), []
        for cost, most in self.limits:
            has = cost.of(free, self.space)
            penalty = f", multiplier {float(multipliers[cost.measure]):.3g}" if cost.measure in multipliers else ""
            relation = "keeps" if has <= most else "exceeds"
            parts.append(f"{amount_text(cost.measure, has)} {relation} {amount_text(cost.measure, most)}{penalty}")
        return f"without bounds the cells' network: {'; '.join(parts)}"


def search_budget(
    config: SearchConfig, mixture: Mixture, image_shape: tuple[int, int, int], classes: int
) -> SearchBudget | None:
    """The budget of a search; None for none.

    A search that resumes keeps the latencies with which it began, whatever this device would measure now.

    Args:
      config: the settings.
      mixture: how the alphas become weights.
      image_shape: `(H, W, C)` of its images.
      classes: their number of classes.

    Raises:
      InputError: no cells keep the bounds, or images that the network cannot read.
    """
    bounds, space, edges_per_node = config.budget.bounds, config.search_space, config.edges_per_node
    if not bounds:
        return None
    network = config.budget.target(space, image_shape, classes)
    earlier = _limits_of_run(config) if "latency" in bounds else ()
    if {limit.cost.measure: limit.most for limit in earlier} == bounds:
        found = Budget(network, earlier)
    else:
        found = budget(space, network, bounds)
        even = {kind: np.zeros((space.num_edges, space.width(kind))) for kind in CELL_KINDS}
        bounded_cells(even, space, edges_per_node, found.limits)
    return SearchBudget(found, space, mixture, edges_per_node, config.budget.budget_rate, config.methods.alphas_from)


def _limits_of_run(config: SearchConfig) -> tuple[Limit, ...]:
    newest = checkpoint.newest(RunFolder(config.folder).checkpoints, [])
    record: Mapping[str, Any] = {} if newest is None else newest.record
    return limits_of(record, config.search_space)
