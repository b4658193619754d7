"""Bounds on weights, multiply-adds and latency: costs of operations, the best cells within bounds, expected costs of mixtures."""

from jdarts.budget.amounts import amount, amount_text
from jdarts.budget.bounded import bounded_cells, keeps, largest_cost, least_cost
from jdarts.budget.cost import Cost, Limit
from jdarts.budget.counting import Target, counted_costs, target
from jdarts.budget.expected import expected_cost

__all__ = [
    "Cost",
    "Limit",
    "Target",
    "amount",
    "amount_text",
    "bounded_cells",
    "counted_costs",
    "expected_cost",
    "keeps",
    "largest_cost",
    "least_cost",
    "target",
]
