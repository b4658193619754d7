"""Where a cell of NAS-Bench-201's space stands among all of them, and how well scores of cells rank them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nasbench201 import EDGES as NETWORK_EDGES
from nasbench201 import OPERATIONS as NETWORK_OPERATIONS
from nasbench201 import edge_name

from .cell_table import EDGES, OPERATIONS, Accuracies, CellKey
from .statistics import kendall_tau

#: The column of the network's tables that each operation of the table has.
_COLUMNS = [NETWORK_OPERATIONS.index(name) for name in OPERATIONS]


class Ranking:
    """The cells in the order of their accuracies.

    Args:
      accuracies: of all cells, as `read_table` returns them.

    Attributes:
      best: the largest accuracy, in percent.
      mean: of all cells, which is what a cell drawn at random can expect.
    """

    def __init__(self, accuracies: Accuracies) -> None:
        self._accuracies = accuracies
        self._sorted = np.sort(accuracies.ravel())
        self.best, self.mean = float(self._sorted[-1]), float(self._sorted.mean())

    def rank(self, choices: Mapping[str, str]) -> int:
        """The rank of a cell, 1 for the best; the first one of those with the same accuracy."""
        above = self._sorted.size - np.searchsorted(self._sorted, self._accuracies[key_of(choices)], side="right")
        return 1 + int(above)

    def regret(self, choices: Mapping[str, str]) -> float:
        """The best accuracy minus that of a cell, in points."""
        return self.best - float(self._accuracies[key_of(choices)])

    def tau_of_alphas(self, strengths: Mapping[str, Any]) -> float:
        """Kendall's τ of the alphas' scores of all cells with their accuracies.

        Args:
          strengths: logarithms of the weights of the operations, `{edge: [1, 5]}` in the network's order; the score of a cell is
            the sum over its edges.
        """
        total = np.zeros(())
        for edge in EDGES:
            total = total[..., None] + np.asarray(strengths[edge_name(*edge)], float).reshape(-1)[_COLUMNS]
        return kendall_tau(total.ravel().tolist(), self._accuracies.ravel().tolist())

    def tau_of_scores(self, cells: Sequence[Mapping[str, str]], scores: Sequence[float]) -> float:
        """Kendall's τ of scores of some cells with their accuracies.

        Args:
          cells: the cells.
          scores: of each, the larger the better.
        """
        return kendall_tau(scores, [float(self._accuracies[key_of(cell)]) for cell in cells])


def key_of(choices: Mapping[str, str]) -> CellKey:
    """The key of a cell, from the operation of each edge by its name."""
    return tuple(OPERATIONS.index(choices[edge_name(*edge)]) for edge in EDGES)


def drawn_cells(count: int, seed: int) -> list[dict[str, str]]:
    """Different cells, drawn uniformly.

    Args:
      count: how many.
      seed: of the draw.
    """
    random = np.random.RandomState(seed)
    numbers = random.permutation(len(NETWORK_OPERATIONS) ** len(NETWORK_EDGES))[:count]
    digits = np.stack(np.unravel_index(numbers, (len(NETWORK_OPERATIONS),) * len(NETWORK_EDGES)), axis=-1)
    return [
        {edge_name(*edge): NETWORK_OPERATIONS[column] for edge, column in zip(NETWORK_EDGES, row)} for row in digits
    ]
