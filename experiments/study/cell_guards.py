"""What guards would have done: rules that read the epochs so far and stop, asked about searches that ran to their end."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jdarts.methods.stopping import EIGENVALUE, RANKING, Epoch, Stop, StoppingRule, skip_connections, stable_ranking
from jdarts.methods.stopping import eigenvalue as eigenvalue_rule
from jdarts.methods.verdict import DECIDED_LEAD, DECIDED_SHARE
from jdarts.operations import OPERATIONS

#: Epochs of the searches for which the authors of the rules gave their numbers.
_USUAL_EPOCHS = 50
_KIND = "cell"
_CONVOLUTIONS = ("nor_conv_1x1", "nor_conv_3x3")


class EpochRecord(NamedTuple):
    """What is known of a search at the end of an epoch.

    Attributes:
      choices: the chosen operation of each edge.
      weights: of the operations, `{edge: [5]}`.
      operations: their names.
      eigenvalue: the largest of the validation loss by the alphas; None where it was not measured.
    """

    choices: Mapping[str, str]
    weights: Mapping[str, np.ndarray]
    operations: Sequence[str]
    eigenvalue: float | None = None

    @property
    def skips(self) -> int:
        """Skip connections of the cell."""
        return list(self.choices.values()).count("skip_connect")

    def leads(self) -> list[float]:
        """By edge the margin of the largest weight over the next, as a share of the next."""
        rows = [np.sort(row)[::-1] for row in self.weights.values()]
        return [float((row[0] - row[1]) / max(row[1], 1e-30)) for row in rows]

    @property
    def margin(self) -> float:
        """The median over the edges of the largest weight minus the next."""
        rows = [np.sort(row)[::-1] for row in self.weights.values()]
        return float(np.median([row[0] - row[1] for row in rows]))

    @property
    def decided(self) -> float:
        """The share of the edges on which the chosen operation leads by `DECIDED_LEAD` or more."""
        return float(np.mean([lead >= DECIDED_LEAD for lead in self.leads()]))

    def as_epoch(self, number: int) -> Epoch:
        """The epoch as stopping rules read it.

        The rules know the operations of `jdarts.operations` alone, so that the genotype leaves out this space's convolutions,
        which no rule counts.
        """
        known = [[name, 0] for name in self.choices.values() if name in OPERATIONS]
        order = {
            edge: sorted(_CONVOLUTIONS, key=lambda name, row=row: -row[self.operations.index(name)])
            for edge, row in self.weights.items()
        }
        numbers = {} if self.eigenvalue is None else {EIGENVALUE: self.eigenvalue}
        return Epoch(number, numbers, {"genotype": {_KIND: known}, RANKING: order})


def decided_rule(history: Sequence[EpochRecord]) -> int | None:
    """The first epoch at which a search has decided, from 1."""
    for number, record in enumerate(history, 1):
        if record.decided >= DECIDED_SHARE:
            return number
    return None


def guards(epochs: int, *, eigenvalues: bool) -> dict[str, Callable[[Sequence[EpochRecord]], int | None]]:
    """The guards by name: from the epochs of a whole search to the epoch whose cell it would have taken, None for the last.

    Args:
      epochs: of the search; the rules' numbers of epochs are scaled from 50 to it.
      eigenvalues: whether the largest eigenvalue was measured after every epoch.
    """
    scaled = max(1, round(10 * epochs / _USUAL_EPOCHS))
    found = {
        "skips": _stopping(skip_connections(kind=_KIND, result="before")),
        "stable ranking": _stopping(stable_ranking(scaled)),
        "decided": decided_rule,
    }
    if eigenvalues:
        found["eigenvalue"] = _stopping(eigenvalue_rule(1, first=scaled))
    return found


def _stopping(rule: StoppingRule) -> Callable[[Sequence[EpochRecord]], int | None]:
    """The epoch that is the result of a search with the rule."""

    def epoch(history: Sequence[EpochRecord]) -> int | None:
        found = stopped_by(rule, [record.as_epoch(number) for number, record in enumerate(history, 1)])
        return None if found is None else found[1]

    return epoch


def stopped_by(rule: StoppingRule, history: Sequence[Epoch]) -> tuple[int, int] | None:
    """After which epoch a rule would have stopped a search, and the epoch of its result; None if it never stops.

    Args:
      rule: the rule, asked when a search would ask it.
      history: all epochs of the search.
    """
    for count in range(1, len(history) + rule.after_last):
        decision = rule.decide(history[:count])
        if isinstance(decision, Stop):
            return count, decision.epoch
    return None
