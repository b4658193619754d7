"""A budget: bounds that hold for one network, and how cells stand against them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jdarts.budget.amounts import amount_text
from jdarts.budget.cost import Limit, Measure
from jdarts.budget.counting import Target, counted_costs
from jdarts.budget.latency import latency_cost
from jdarts.genotype import Genotype
from jdarts.space import SearchSpace


@dataclasses.dataclass(frozen=True)
class Budget:
    """Bounds on the network of a space's cells.

    Attributes:
      network: everything but the cells.
      limits: the bounds.
    """

    network: Target
    limits: tuple[Limit, ...]

    def words(self, genotype: Genotype, space: SearchSpace, free: Genotype | None = None) -> list[str]:
        """How cells stand against each bound, one line for each.

        Args:
          genotype: the cells.
          space: the search space.
          free: the cells that would be derived without bounds.
        """
        lines = []
        for cost, most in self.limits:
            without = None if free is None else cost.of(free, space)
            lines.append(stand_words(cost.measure, cost.of(genotype, space), most, str(self.network), without))
        return lines

    def to_json(self) -> dict[str, Any]:
        """The budget as JSON data."""
        return {"network": dataclasses.asdict(self.network), "limits": [limit.to_json() for limit in self.limits]}


def stand_words(measure: Measure, has: int, most: int, network: str, without: int | None = None) -> str:
    """How a network stands against a bound, in one line.

    Args:
      measure: what is bounded.
      has: the cost.
      most: the bound.
      network: the network, in words.
      without: the cost of what would be derived without bounds.
    """
    line = (
        f"{amount_text(measure, has)}, {'within' if has <= most else 'above'} the bound of {amount_text(measure, most)}"
    )
    if without is not None and without != has:
        line += f"; without bounds {amount_text(measure, without)}"
    return f"{line} ({network})"


def budget(space: SearchSpace, network: Target, bounds: Mapping[Measure, int]) -> Budget:
    """The budget of bounds by measure; weights and multiply-adds are counted, a latency is measured unless it is known.

    Args:
      space: the search space.
      network: everything but the cells.
      bounds: the largest cost allowed for each bounded measure; a latency in nanoseconds.

    Raises:
      InputError: images that the network cannot read.
    """
    counted = counted_costs(space, network) if set(bounds) - {"latency"} else {}
    costs = {**counted, **({"latency": latency_cost(space, network)} if "latency" in bounds else {})}
    return Budget(network, tuple(Limit(costs[measure], most) for measure, most in bounds.items()))
