"""When a run ends early: a rule is a pure function of the epochs that have ended.

Every row of `RULES` is a rule for `--stop NAME` of a search, with settings as in `--stop skip_connections:limit=3,result=before`.
By default there is no rule, and a run does all its epochs.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from jdarts.errors import InputError, shown
from jdarts.methods.rule_settings import rule_from_text
from jdarts.methods.verdict import table_of
from jdarts.relaxation import RECURRENT

#: The number of an epoch that holds the largest eigenvalue of ∇²α L_val, with RobustDARTS's 1e-3 on the diagonal
#: (`jdarts.bilevel.largest_eigenvalue`).
EIGENVALUE = "guards/eigenvalue"

#: The number of an epoch that holds the weight decay of its weight steps; in `RollBack.controls` that of the epochs to come.
WEIGHT_DECAY = "controls/weight_decay"

#: The fact of an epoch that `jdarts.methods.verdict.learnable_ranking` makes.
RANKING = "ranking"


class Epoch(NamedTuple):
    """What a rule knows about an epoch.

    Attributes:
      number: which epoch, counted from 1.
      numbers: means over its steps and results of its evaluation, by names such as `valid/loss` and `evaluation/accuracy`.
      facts: further JSON data of the kind of run; searches give `genotype`, `ranking`, and `alphas` as nested lists.
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


class RollBack(NamedTuple):
    """A new start from an earlier epoch, whose state is loaded. The later epochs are dropped from the history.

    Attributes:
      reason: why, one clause in plain words.
      epoch: the epoch whose state is loaded, counted from 1; the run continues with the one after it.
      controls: numbers by name that hold from then on, instead of those of the schedule.
    """

    reason: str
    epoch: int
    controls: Mapping[str, float]


#: Epochs that have ended, in order -> the end of the run, a new start, or None to continue.
Decide = Callable[[Sequence[Epoch]], Stop | RollBack | None]


@dataclasses.dataclass(frozen=True)
class StoppingRule:
    """A stopping rule.

    Attributes:
      decide: called after each epoch with all that have ended.
      reach: how many epochs before the last one `decide` may roll back to; the run keeps their checkpoints.
      measured: numbers that the rule reads and that cost further passes, by name, and after how many epochs each is measured
        again. The first and the last epoch have all of them.
      after_last: whether the rule is asked after the last epoch of a run.
      changes: the controls that a `RollBack` of the rule changes.
      kind: the kind of cell that it reads; None for all kinds.
    """

    decide: Decide
    reach: int = 0
    measured: Mapping[str, int] = dataclasses.field(default_factory=dict, hash=False)
    after_last: bool = True
    changes: tuple[str, ...] = ()
    kind: str | None = None

    @property
    def changed_settings(self) -> tuple[str, ...]:
        """The settings of the weights' optimiser that a `RollBack` of the rule changes."""
        return tuple(name.rpartition("/")[2] for name in self.changes)


def skip_connections(
    limit: int = 2, *, kind: str = "normal", result: Literal["last", "before"] = "last"
) -> StoppingRule:
    """Stops as soon as a derived cell has too many skip connections (DARTS+; Liang et al. 2019, criterion 1).

    Args:
      limit: number of skip connections that ends the run, 1 or more; in a recurrent cell, of nodes with the activation
        `identity`.
      kind: the kind of cell that is counted: normal, reduce or recurrent.
      result: the epoch whose cells are the result: the last one, which has too many, or the one before it, if there is one.

    Raises:
      InputError: a setting out of its range.
    """
    if limit < 1:
        raise InputError(f"skip_connections: limit is {limit}; give 1 or more")
    if result not in ("last", "before"):
        raise InputError(f"skip_connections: result is {result!r}; give last or before")

    def decide(history: Sequence[Epoch]) -> Stop | None:
        last = history[-1]
        genotype = last.facts["genotype"]
        if kind not in genotype:
            raise InputError(f"skip_connections: kind is {kind!r}, and the cells have no such kind")
        count = sum(table_of(kind)[operation].family == "skip" for operation, _ in genotype[kind])
        if count < limit:
            return None
        epoch = last.number if result == "last" else max(last.number - 1, 1)
        counted = "nodes with identity" if kind == RECURRENT else "skip connections"
        return Stop(f"the {kind} cell has {count} {counted}, and {limit} end the search", epoch)

    return StoppingRule(decide, reach=0 if result == "last" else 1, kind=kind)


def stable_ranking(epochs: int = 10) -> StoppingRule:
    """Stops when the ranking of each edge's learnable operations has stayed the same (DARTS+; Liang et al. 2019, criterion 2).

    Where no edge has two learnable operations there is no ranking, and the run does all its epochs.

    Args:
      epochs: number of epochs that have not changed the ranking, 1 or more.

    Raises:
      InputError: fewer than 1 epoch.
    """
    if epochs < 1:
        raise InputError(f"stable_ranking: epochs is {epochs}; give 1 or more")

    def decide(history: Sequence[Epoch]) -> Stop | None:
        last = history[-1]
        rankings = [epoch.facts[RANKING] for epoch in history[-1 - epochs :]]
        if len(rankings) <= epochs or not any(rankings[-1].values()) or any(each != rankings[-1] for each in rankings):
            return None
        return Stop(f"{epochs} epochs have not changed the ranking of the operations", last.number)

    return StoppingRule(decide)


def eigenvalue(every: int = 2, *, ratio: float = 1.3, first: int = 10) -> StoppingRule:
    """Stops when the largest eigenvalue of ∇²α L_val has grown, with the cells from before it did (DARTS-ES; Zela et al. 2020).

    The eigenvalue is measured in the epochs 1, 1 + every, 1 + 2·every, …, and averaged over five measurements: the average stands
    for the middle one. The run stops if an average is more than `ratio` times the one from four measurements before, and its
    result is the epoch that the latter stands for: `6·every` epochs before the last.

    Args:
      every: number of epochs from one measurement to the next, 1 or more.
      ratio: of two averages, above 0; RobustDARTS takes 1.3.
      first: the epochs before this one are never the result, counted from 0 as in RobustDARTS. The first run that can stop does
        so after epoch `first + 6·every + 1`.

    Raises:
      InputError: a setting out of its range.
    """
    if every < 1:
        raise InputError(f"eigenvalue: every is {every}; give 1 or more epochs")
    if not ratio > 0:
        raise InputError(f"eigenvalue: ratio is {ratio}; give a number above 0 (RobustDARTS takes 1.3)")
    if first < 0:
        raise InputError(f"eigenvalue: first is {first}; give 0 or more")

    def decide(history: Sequence[Epoch]) -> Stop | None:
        measured = [epoch for epoch in history if (epoch.number - 1) % every == 0]
        last = history[-1]
        if measured[-1] is not last:
            return None
        averages = local_averages([_number(epoch, EIGENVALUE) for epoch in measured])
        result = last.number - 6 * every
        if result - 1 < first or len(averages) < 5 or not averages[-1] > ratio * averages[-5]:
            return None
        return Stop(
            f"the largest eigenvalue of the alphas' Hessian has grown from {averages[-5]:.3g} to {averages[-1]:.3g}, more than "
            f"{ratio:g} times",
            result,
        )

    return StoppingRule(decide, reach=6 * every, measured={EIGENVALUE: every}, after_last=False)


def local_averages(values: Sequence[float]) -> list[float]:
    """RobustDARTS's averages of the measurements so far, one for each from the third on.

    The third and the fourth measurement are averaged with all before them, each later one with the four before it.
    """
    return [
        sum(values[start : end + 1]) / (end + 1 - start)
        for end in range(2, len(values))
        for start in (max(0, end - 4),)
    ]


def adaptive_decay(
    every: int = 2, *, ratio: float = 1.3, first: int = 10, factor: float = 3.0, largest: float = 0.0243
) -> StoppingRule:
    """Starts again with more weight decay where `eigenvalue` would stop (DARTS-ADA; Zela et al. 2020).

    The run rolls back to the epoch that would be the result, and continues with the weight decay multiplied by `factor`. It does
    so while the weight decay stays within `largest`; after that it does all its epochs.

    Args:
      every: as for `eigenvalue`.
      ratio: as for `eigenvalue`.
      first: as for `eigenvalue`.
      factor: of one weight decay and the next, above 1.
      largest: the largest weight decay; RobustDARTS's 0.0243 is 3e-4 · 3⁴.

    Raises:
      InputError: a setting out of its range.
    """
    if not factor > 1:
        raise InputError(f"adaptive_decay: factor is {factor}; give a number above 1 (RobustDARTS takes 3)")
    if not largest > 0:
        raise InputError(
            f"adaptive_decay: largest is {largest}; give a weight decay above 0 (RobustDARTS takes 0.0243)"
        )
    stops = eigenvalue(every, ratio=ratio, first=first)

    def decide(history: Sequence[Epoch]) -> RollBack | None:
        stop = stops.decide(history)
        if not isinstance(stop, Stop):
            return None
        decay = factor * _number(history[-1], WEIGHT_DECAY)
        # Rounding puts some products above their decimal number: 3 · 0.009 is more than 0.027.
        return RollBack(stop.reason, stop.epoch, {WEIGHT_DECAY: decay}) if decay <= largest * (1 + 1e-9) else None

    return dataclasses.replace(stops, decide=decide, changes=(WEIGHT_DECAY,))


def _number(epoch: Epoch, name: str) -> float:
    if name not in epoch.numbers:
        raise InputError(f"the rule reads {name}, and epoch {epoch.number} has no such number")
    return epoch.numbers[name]


#: The name that stands for no rule.
NO_RULE = "none"

RULES: Mapping[str, Callable[..., StoppingRule]] = {
    "adaptive_decay": adaptive_decay,
    "eigenvalue": eigenvalue,
    "skip_connections": skip_connections,
    "stable_ranking": stable_ranking,
}


def stopping_rule(text: str | None) -> StoppingRule | None:
    """The rule that a text names, `NAME` or `NAME:SETTING=VALUE,…`; None for None and for `none`.

    Raises:
      InputError: there is no such rule or setting, or a value is out of its range.
    """
    return None if text in (None, NO_RULE) else rule_from_text(text, RULES, "--stop", nothing=NO_RULE)


def check_stopping_rule(text: str | None, kinds: Sequence[str]) -> None:
    """Checks that a text names a rule for the cells of a search.

    Args:
      text: as for `stopping_rule`.
      kinds: the kinds of the search's cells.

    Raises:
      InputError: as `stopping_rule`, or the rule reads a kind of cell that there is not.
    """
    rule = stopping_rule(text)
    if rule is not None and rule.kind is not None and rule.kind not in kinds:
        name = (text or "").partition(":")[0]
        raise InputError(
            f"--stop {text} reads the {shown(rule.kind)} cell, and this search has {' and '.join(kinds)} cells; give "
            f"{' or '.join(f'{name}:kind={kind}' for kind in kinds)}"
        )
