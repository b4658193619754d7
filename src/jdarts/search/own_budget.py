"""The budget of a search in the user's own network: bounds on the network that its choices decide."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jdarts.budget.cost import Measure
from jdarts.budget.penalty import CostPenalty
from jdarts.choice.bounded import bounded_choices, check_costs
from jdarts.choice.cost import ChoiceCost, ChoiceLimit
from jdarts.choice.counting import choice_costs
from jdarts.choice.deciding import decide
from jdarts.choice.latency import choice_latency
from jdarts.choice.tables import with_tables
from jdarts.errors import InputError, shown
from jdarts.network_tasks.calling import class_name, mode
from jdarts.relaxation import Alphas, Mixture, MixtureWeights
from jdarts.search.budgets import Bound, SearchBudget, record_of_run
from jdarts.search.config import SearchConfig
from jdarts.search.own_network import OwnNetwork


def own_budget(config: SearchConfig, own: OwnNetwork, mixture: Mixture, inputs: tuple[Any, ...]) -> SearchBudget | None:
    """The budget of a search in the user's own network; None for none.

    A search that resumes keeps the latencies with which it began, whatever this device would measure now.

    Args:
      config: the settings.
      own: the network.
      mixture: how the alphas become weights.
      inputs: arguments of the network for one example, or their shapes and types.

    Raises:
      InputError: no choices keep the bounds, or costs that cannot be counted.
    """
    bounds = config.budget.bounds
    if not bounds:
        return None
    earlier = _limits_of_run(config)
    if {limit.cost.measure: limit.most for limit in earlier} == bounds:
        limits = earlier
        check_costs(limits, own.choices)
    else:
        costs = _costs(bounds, own, inputs)
        limits = tuple(ChoiceLimit(costs[measure], most) for measure, most in bounds.items())
        even = {name: np.zeros((len(rows), len(rows[0]))) for name, rows in own.space.tables}
        bounded_choices(even, own.choices, limits)

    def free(alphas: Alphas) -> Any:
        return decide(with_tables(own.choices, alphas), mixture=mixture)

    return SearchBudget(
        tuple(Bound(limit.cost.measure, limit.most, limit.cost.of) for limit in limits),
        limits,
        free,
        tuple(_penalty(each) for each in limits),
        f"the decided {class_name(own.network)}",
        {"limits": [limit.to_json() for limit in limits]},
        config.budget.budget_rate,
        config.methods.alphas_from,
    )


def _costs(bounds: Mapping[Measure, int], own: OwnNetwork, inputs: tuple[Any, ...]) -> Mapping[Measure, ChoiceCost]:
    keywords = mode(own.network, train=False)
    costs: dict[Measure, ChoiceCost] = {}
    if set(bounds) - {"latency"}:
        costs |= choice_costs(own.network, *inputs, **keywords)
    if "latency" in bounds:
        costs["latency"] = choice_latency(own.network, *inputs, **keywords)
    return costs


def _penalty(limit: ChoiceLimit) -> CostPenalty:
    def expected(weights: MixtureWeights) -> Any:
        return limit.cost.expected(weights.operations)

    return CostPenalty(limit.cost.measure, limit.most, expected)


def _limits_of_run(config: SearchConfig) -> tuple[ChoiceLimit, ...]:
    """The bounds with which a run began; none before its first checkpoint."""
    content = record_of_run(config).get("budget")
    if content is None:
        return ()
    limits = content.get("limits") if isinstance(content, dict) else None
    if not isinstance(limits, list):
        raise InputError(f"the budget of the search is damaged: {shown(content)}; use another checkpoint")
    return tuple(map(ChoiceLimit.from_json, limits))
