"""The budget of a search: from its settings or its checkpoints, and what it does at the end of an epoch."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jdarts import checkpoint
from jdarts.budget.amounts import amount_text
from jdarts.budget.bounded import bounded_cells
from jdarts.budget.budget import Budget, budget, stand_words
from jdarts.budget.cost import Measure, limits_of
from jdarts.budget.expected import expected_cost
from jdarts.budget.penalty import CostPenalty, Multipliers, next_multipliers
from jdarts.derivation import derive_genotype
from jdarts.relaxation import Alphas, Mixture
from jdarts.runs.folder import RunFolder
from jdarts.search.config import SearchConfig
from jdarts.space import SearchSpace


@dataclasses.dataclass(frozen=True)
class Bound:
    """A bound on what a search derives, cells or choices.

    Attributes:
      measure: what is bounded.
      most: the largest cost allowed.
      cost: of what is derived.
    """

    measure: Measure
    most: int
    cost: Callable[[Any], int]


@dataclasses.dataclass(frozen=True)
class SearchBudget:
    """The budget of a search.

    Attributes:
      bounds: on what it derives.
      limits: the same as derivation reads them.
      free: what the alphas derive without bounds.
      penalties: on expected costs, for each bound.
      network: the bounded network, in words.
      content: the budget as JSON data.
      rate: as for `jdarts.budget.penalty.next_multipliers`; 0 for no penalty.
      first_epoch: first epoch, counted from 0, after which the multipliers change: the alphas stand still before it.
    """

    bounds: tuple[Bound, ...]
    limits: tuple[Any, ...]
    free: Callable[[Alphas], Any]
    penalties: tuple[CostPenalty, ...]
    network: str
    content: Mapping[str, Any]
    rate: float
    first_epoch: int = 0

    @property
    def penalised(self) -> tuple[CostPenalty, ...]:
        """The penalties that there are."""
        return self.penalties if self.rate > 0 else ()

    def after_epoch(self, multipliers: Multipliers, alphas: Alphas, epoch: int) -> dict[str, Any]:
        """The multipliers of one run after an epoch, which is counted from 0."""
        if epoch < self.first_epoch or not multipliers:
            return {name: np.float32(value) for name, value in multipliers.items()}
        free = self.free(alphas)
        return next_multipliers(
            multipliers, {each.measure: each.cost(free) / each.most for each in self.bounds}, self.rate
        )

    def numbers(self, derived: Any, alphas: Alphas, multipliers: Multipliers) -> dict[str, float]:
        """The numbers of one run's epoch: costs of what it derives, of that without bounds, and the multipliers."""
        free = self.free(alphas)
        found: dict[str, float] = {}
        for each in self.bounds:
            found[f"budget/{each.measure}"] = float(each.cost(derived))
            found[f"budget/{each.measure}_without_bounds"] = float(each.cost(free))
        return found | {f"budget/multiplier_{name}": float(value) for name, value in multipliers.items()}

    def result(self, derived: Any, alphas: Alphas) -> dict[str, Any]:
        """How what is derived stands against the bounds, for the summary: lines of text, and numbers by measure."""
        free = self.free(alphas)
        text, numbers = [], {}
        for each in self.bounds:
            has, without = each.cost(derived), each.cost(free)
            text.append(stand_words(each.measure, has, each.most, self.network, without))
            numbers[each.measure] = {"most": each.most, "cost": has, "without_bounds": without}
        return {"text": text, "budget": numbers}

    def line(self, alphas: Alphas, multipliers: Multipliers) -> str:
        """What the alphas alone would derive, for the display."""
        free, parts = self.free(alphas), []
        for each in self.bounds:
            has = each.cost(free)
            penalty = f", multiplier {float(multipliers[each.measure]):.3g}" if each.measure in multipliers else ""
            relation = "keeps" if has <= each.most else "exceeds"
            parts.append(f"{amount_text(each.measure, has)} {relation} {amount_text(each.measure, each.most)}{penalty}")
        return f"without bounds the derived network: {'; '.join(parts)}"


def search_budget(
    config: SearchConfig, mixture: Mixture, image_shape: tuple[int, int, int], classes: int
) -> SearchBudget | None:
    """The budget of a search for cells; None for none.

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
    earlier = limits_of(record_of_run(config), space) if "latency" in bounds else ()
    if {limit.cost.measure: limit.most for limit in earlier} == bounds:
        found = Budget(network, earlier)
    else:
        found = budget(space, network, bounds)
        even = {kind: np.zeros((space.num_edges, space.width(kind))) for kind in space.kinds}
        bounded_cells(even, space, edges_per_node, found.limits)
    return SearchBudget(
        tuple(_bound(each, space) for each in found.limits),
        found.limits,
        lambda alphas: derive_genotype(alphas, space, edges_per_node=edges_per_node, mixture=mixture),
        tuple(_penalty(each, space, edges_per_node) for each in found.limits),
        str(network),
        found.to_json(),
        config.budget.budget_rate,
        config.methods.alphas_from,
    )


def _bound(limit: Any, space: SearchSpace) -> Bound:
    return Bound(limit.cost.measure, limit.most, lambda genotype: limit.cost.of(genotype, space))


def _penalty(limit: Any, space: SearchSpace, edges_per_node: int) -> CostPenalty:
    return CostPenalty(
        limit.cost.measure, limit.most, lambda weights: expected_cost(limit.cost, weights, space, edges_per_node)
    )


def record_of_run(config: SearchConfig) -> Mapping[str, Any]:
    """The record of a run's newest checkpoint; empty before the first one."""
    newest = checkpoint.newest(RunFolder(config.folder).checkpoints, [])
    return {} if newest is None else newest.record
