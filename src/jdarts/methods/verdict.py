"""How far a search has decided: margins between operations, skips in the derived cells, changes since the last epoch.

Pure functions of a mixture's weights and of genotypes, for convolutional and recurrent cells.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jdarts.errors import InputError
from jdarts.genotype import AnyGenotype, Cell, Genotype
from jdarts.operations import ACTIVATIONS, NONE, OPERATIONS, implementation
from jdarts.relaxation import RECURRENT, Alphas, Mixture, Space, host_weights, operations_of
from jdarts.space import CELL_NAMES

#: An edge is decided if its operation leads by this share.
DECIDED_LEAD = 0.1
#: A search has decided if this share of its edges is decided.
DECIDED_SHARE = 0.9


class CellVerdict(NamedTuple):
    """What a search says of one kind of cell.

    Attributes:
      margins: `[E]`, the weight of each edge's chosen operation minus that of the next; neither is `none`. With a single
        candidate it is the weight.
      leads: `[E]`, the same as a share of the next operation's weight: 0.01 is 1 %; infinite with a single candidate.
      decided: bool `[E]`, whether the lead is that of a decided edge.
      skips: skip connections in the derived cell; in a recurrent cell, nodes of the activation `identity`.
      weightless: operations without weights in the derived cell: pools, and skips that are identities; 0 in a recurrent cell,
        which has weights for every node.
      operations: operations in the derived cell.
      changed: how many of them the epoch before did not have at that node; None if there is none.
    """

    margins: np.ndarray
    leads: np.ndarray
    decided: np.ndarray
    skips: int
    weightless: int
    operations: int
    changed: int | None

    @property
    def median_lead(self) -> float:
        """The lead of the edge in the middle."""
        return float(np.sort(self.leads)[self.leads.size // 2])


class Verdict(NamedTuple):
    """What a search says of its cells.

    Attributes:
      cells: by kind.
      lead: from which lead an edge counts as decided.
      is_decided: whether enough edges are decided.
    """

    cells: Mapping[str, CellVerdict]
    lead: float
    is_decided: bool

    def numbers(self) -> dict[str, float]:
        """The numbers of an epoch, by the names `guards/WHAT_KIND`.

        `margin` and `lead` are medians over the edges, `decided` is a share of them; `skips`, `weightless` and `changed` are
        counts. A lead that is infinite, and changes since no epoch, are left out.
        """
        numbers: dict[str, float] = {}
        for kind, cell in self.cells.items():
            numbers |= {
                f"guards/margin_{kind}": float(np.median(cell.margins)),
                f"guards/decided_{kind}": float(np.mean(cell.decided)),
                f"guards/skips_{kind}": float(cell.skips),
                f"guards/weightless_{kind}": float(cell.weightless),
            }
            if np.isfinite(cell.median_lead):
                numbers[f"guards/lead_{kind}"] = cell.median_lead
            if cell.changed is not None:
                numbers[f"guards/changed_{kind}"] = float(cell.changed)
        return numbers

    def lines(self) -> list[str]:
        """The verdict in plain words: decided or not, and a line for each cell."""
        return [self._decision(), *(_cell_line(kind, cell) for kind, cell in self.cells.items())]

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON data: the words, the decision, and the numbers of every edge."""
        return {
            "text": self.lines(),
            "decided": self.is_decided,
            "cells": {
                kind: {
                    "margins": cell.margins.tolist(),
                    "leads": [float(lead) if np.isfinite(lead) else None for lead in cell.leads],
                    "decided": cell.decided.tolist(),
                    "skips": cell.skips,
                    "weightless": cell.weightless,
                    "operations": cell.operations,
                    "changed": cell.changed,
                }
                for kind, cell in self.cells.items()
            },
        }

    def _decision(self) -> str:
        total = sum(cell.decided.size for cell in self.cells.values())
        count = sum(int(np.sum(cell.decided)) for cell in self.cells.values())
        if self.is_decided:
            return f"decided: the chosen operation leads by {_percent(self.lead)} or more on {count} of {total} edges"
        places = [
            f"{np.sum(~cell.decided)} of {cell.decided.size} edges of the {CELL_NAMES[kind]} "
            f"(median lead {_percent(cell.median_lead)})"
            for kind, cell in self.cells.items()
            if not np.all(cell.decided)
        ]
        return f"undecided: the chosen operation leads by less than {_percent(self.lead)} on {' and '.join(places)}"


def verdict(
    weights: Mapping[str, np.ndarray],
    genotype: AnyGenotype,
    space: Space,
    *,
    before: AnyGenotype | None = None,
    lead: float = DECIDED_LEAD,
    share: float = DECIDED_SHARE,
) -> Verdict:
    """Judges how far a search has decided.

    Args:
      weights: `{kind: [E, O]}`, the mixture's factors of the operations, or `[L, E, O]` for each cell, of which the mean is
        taken.
      genotype: the cells that are derived from them.
      space: the search space.
      before: the cells of the epoch before.
      lead: from which lead an edge counts as decided, above 0: 0.1 means that the chosen operation has 1.1 times the weight of
        the next.
      share: of decided edges among all, from which the search counts as decided.

    Raises:
      InputError: weights of another shape or not finite, or a lead that is not above 0.
    """
    if not lead > 0:
        raise InputError(f"the lead of a decided edge is {lead}; give a number above 0, such as {DECIDED_LEAD}")
    cells = {}
    for kind, operations in operations_of(space).items():
        table = np.asarray(weights[kind], np.float64)
        table = table.mean(axis=0) if table.ndim == 3 else table
        expected = (len(operations), max(map(len, operations)))
        if table.shape != expected or not np.all(np.isfinite(table)):
            raise InputError(
                f"the weights of the {kind} cell are no finite table {expected}; their shape is {table.shape}"
            )
        margins, leads = _margins(table, operations)
        nodes = _nodes(genotype, kind)
        cell = [edge for node in nodes for edge in node]
        cells[kind] = CellVerdict(
            margins=margins,
            leads=leads,
            decided=leads >= lead,
            skips=sum(table_of(kind)[name].family == "skip" for name, _ in cell),
            weightless=sum(_is_weightless(name, source, kind) for name, source in cell),
            operations=len(cell),
            changed=None if before is None else _changed(nodes, _nodes(before, kind)),
        )
    decided = np.concatenate([cell.decided for cell in cells.values()])
    return Verdict(cells, lead, bool(np.mean(decided) >= share))


def verdict_of_alphas(
    alphas: Alphas, genotype: AnyGenotype, space: Space, mixture: Mixture, *, before: AnyGenotype | None = None
) -> Verdict:
    """`verdict` on the mean weights of a mixture.

    Args:
      alphas: those of the mixture.
      genotype: the cells that are derived from them.
      space: the search space.
      mixture: how alphas become weights.
      before: the cells of the epoch before.
    """
    return verdict(host_weights(mixture, alphas, space)[0], genotype, space, before=before)


def learnable_ranking(strengths: Mapping[str, np.ndarray], space: Space) -> dict[str, list[list[int]]]:
    """How the learnable operations of each edge rank: those with weights; in a recurrent cell every activation but `none`.

    Args:
      strengths: `{kind: [E, O]}`, as `jdarts.relaxation.Mixture.strengths` gives them.
      space: the search space.

    Returns:
      By kind of cell, the columns of each edge's learnable operations, strongest first; edges with fewer than two are left out.
    """
    return {
        kind: [
            ranked
            for row, names in zip(np.asarray(strengths[kind]), operations)
            if len(ranked := sorted(_learnable(names, kind), key=lambda column, row=row: -row[column])) > 1
        ]
        for kind, operations in operations_of(space).items()
    }


def _learnable(names: Sequence[str], kind: str) -> list[int]:
    return [
        column
        for column, name in enumerate(names)
        if name != NONE and (kind == RECURRENT or implementation(name, 1).has_weights)
    ]


def _margins(table: np.ndarray, operations: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Margin and lead of every edge's strongest operation."""
    margins, leads = np.zeros(len(operations)), np.zeros(len(operations))
    for edge, names in enumerate(operations):
        ordered = sorted((table[edge, column] for column, name in enumerate(names) if name != NONE), reverse=True)
        first, second = (*ordered, 0.0)[:2]
        margins[edge] = first - second
        leads[edge] = (
            margins[edge] / second if second > 0 else np.inf if margins[edge] > 0 or len(ordered) == 1 else 0.0
        )
    return margins, leads


def table_of(kind: str) -> Mapping[str, Any]:
    """The table of the operations of a kind of cell."""
    return ACTIVATIONS if kind == RECURRENT else OPERATIONS


def _is_weightless(name: str, source: int, kind: str) -> bool:
    if kind == RECURRENT:
        return False
    stride = 2 if kind == "reduce" and source < 2 else 1
    return not implementation(name, stride).has_weights


def _nodes(genotype: AnyGenotype, kind: str) -> Sequence[Cell]:
    """The entries of every node."""
    if isinstance(genotype, Genotype):
        return genotype.nodes("normal" if kind == "normal" else "reduce")
    return [(entry,) for entry in genotype.recurrent]


def _changed(nodes: Sequence[Cell], before: Sequence[Cell]) -> int:
    """Entries that the same node did not have before."""
    earlier = [*before, *([()] * (len(nodes) - len(before)))]
    return sum(sum((Counter(node) - Counter(old)).values()) for node, old in zip(nodes, earlier))


def _cell_line(kind: str, cell: CellVerdict) -> str:
    """Skips, weights and changes of one cell."""
    parts = [f"{cell.skips} of {cell.operations} operations are skip connections"]
    if kind == RECURRENT:
        parts = [f"{cell.skips} of {cell.operations} nodes have the activation identity"]
    else:
        parts.append(f"{cell.weightless} without weights")
    if cell.changed is not None:
        parts.append(f"{cell.changed} changed in the last epoch")
    return f"the {CELL_NAMES[kind]}: {', '.join(parts)}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if np.isfinite(share) else "without a rival"
