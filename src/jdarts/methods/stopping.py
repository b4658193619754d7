"""When a run ends early: a rule is a pure function of the epochs that have ended.

Every row of `RULES` is a rule for `--stop NAME` of a search. By default there is no rule, and a run does all its epochs.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jdarts.errors import InputError
from jdarts.operations import OPERATIONS


class Epoch(NamedTuple):
    """What a rule knows about an epoch.

    Attributes:
      number: which epoch, counted from 1.
      numbers: means over its steps and results of its evaluation, by names such as `valid/loss` and `evaluation/accuracy`.
      facts: further JSON data of the kind of run; searches give `genotype`, and `alphas` as nested lists.
    """

    number: int
    numbers: Mapping[str, float]
    facts: Mapping[str, Any]


class Stop(NamedTuple):
    """The end of a run.

    Attributes:
      reason: why it ends, one clause in plain words.
      epoch: the epoch whose state is the result, counted from 1: the last one, or an earlier one to which the run rolls back.
    """

    reason: str
    epoch: int


#: Epochs that have ended, in order -> the end of the run, or None to continue.
Decide = Callable[[Sequence[Epoch]], Stop | None]


@dataclasses.dataclass(frozen=True)
class StoppingRule:
    """A stopping rule.

    Attributes:
      decide: called after each epoch with all that have ended.
      reach: how many epochs before the last one `decide` may roll back to; the run keeps their checkpoints.
    """

    decide: Decide
    reach: int = 0


def skip_connections(limit: int = 2, *, kind: str = "normal") -> StoppingRule:
    """Stops as soon as a derived cell has too many skip connections (DARTS+; Liang et al. 2019, criterion 1).

    Args:
      limit: number of skip connections that ends the run.
      kind: the kind of cell that is counted, a key of the genotype.
    """

    def decide(history: Sequence[Epoch]) -> Stop | None:
        last = history[-1]
        count = sum(OPERATIONS[operation].family == "skip" for operation, _ in last.facts["genotype"][kind])
        if count < limit:
            return None
        return Stop(f"the {kind} cell has {count} skip connections, and {limit} end the search", last.number)

    return StoppingRule(decide)


RULES: Mapping[str, Callable[[], StoppingRule]] = {"skip_connections": skip_connections}


def stopping_rule(name: str | None) -> StoppingRule | None:
    """The rule with a name; None for None.

    Raises:
      InputError: there is no such rule.
    """
    if name is None:
        return None
    if name not in RULES:
        raise InputError(f"--stop is {name!r}; give {' or '.join(sorted(RULES))}, or leave it out")
    return RULES[name]()
