"""Bounds on weights, multiply-adds and latency of networks of a space's cells.

`jdarts.budget.counting` counts the costs of operations, `latency` measures them, `expected` has the expected cost of a mixture.
"""

from jdarts.budget.amounts import amount, amount_text
from jdarts.budget.bounded import bounded_cells, keeps, largest_cost, least_cost
from jdarts.budget.cost import Cost, Limit

__all__ = ["Cost", "Limit", "amount", "amount_text", "bounded_cells", "keeps", "largest_cost", "least_cost"]
