"""What the decided networks of choices cost by one measure: a sum of tables over choices that act together."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.budget.amounts import amount
from jdarts.budget.cost import MEASURES, Measure
from jdarts.choice.decisions import Choices
from jdarts.errors import InputError, shown


class Axis(NamedTuple):
    """The axis of a table: one decision.

    Attributes:
      name: of the choice.
      row: the layer of an `nn.scan` with alphas for each, else 0.
    """

    name: str
    row: int


#: What decisions add together: `int64 [O₁, …, Oₙ]`, a number for each combination of their candidates.
Tables = Mapping[tuple[Axis, ...], np.ndarray]


@dataclasses.dataclass(frozen=True)
class ChoiceCost:
    """The cost of every decided network of a network with choices, by one measure, in whole numbers.

    A candidate of one choice is a table of one axis, one inside a candidate of another choice a table of two; so are two widths
    of which one follows the other, whose sizes multiply.

    Attributes:
      measure: what is counted.
      base: what every decided network costs.
      tables: what decisions add, by the decisions.
      candidates: of each choice, in order.
    """

    measure: Measure
    base: int
    tables: Tables
    candidates: Mapping[str, tuple[str, ...]]

    def of(self, choices: Choices) -> int:
        """The cost of a decided network.

        Args:
          choices: as `jdarts.decide` returns them.

        Raises:
          InputError: a choice is missing, or names something else than one of its candidates.
        """
        return self.base + sum(
            int(table[tuple(self._index(axis, choices) for axis in axes)]) for axes, table in self.tables.items()
        )

    def _index(self, axis: Axis, choices: Choices) -> int:
        chosen = choices.get(axis.name)
        if isinstance(chosen, tuple):
            chosen = chosen[axis.row] if axis.row < len(chosen) else None
        known = self.candidates[axis.name]
        if chosen not in known:
            raise InputError(f"{axis.name} is {shown(chosen)}; give one of {', '.join(known)}")
        return known.index(chosen)

    def expected(self, weights: Mapping[str, jax.Array]) -> jax.Array:
        """The mean cost of decided networks whose candidates are drawn by their weights, each choice for itself.

        It is differentiable in the weights.

        Args:
          weights: of the candidates of each choice, `[O]`, or `[L, O]` with a row for each layer, as
            `jdarts.choice.tables.weights_of` returns them.

        Returns:
          A scalar in the unit of the cost, of the type of the weights.
        """
        dtype = jnp.result_type(*weights.values())
        rows = {name: jnp.reshape(each, (-1, each.shape[-1])) for name, each in weights.items()}
        terms = [
            functools.reduce(
                lambda left, axis: jnp.tensordot(rows[axis.name][axis.row], left, 1), axes, jnp.asarray(table, dtype)
            )
            for axes, table in self.tables.items()
        ]
        return functools.reduce(jnp.add, terms, jnp.asarray(self.base, dtype))


class ChoiceLimit(NamedTuple):
    """A bound on the cost of a decided network.

    Attributes:
      cost: what is bounded.
      most: the largest cost allowed; a latency in nanoseconds.
    """

    cost: ChoiceCost
    most: int

    def to_json(self) -> dict[str, Any]:
        """The bound and its costs as JSON data."""
        tables = [[list(map(list, axes)), table.tolist()] for axes, table in self.cost.tables.items()]
        known = {name: list(each) for name, each in self.cost.candidates.items()}
        return {
            "measure": self.cost.measure,
            "most": self.most,
            "base": self.cost.base,
            "tables": tables,
            "candidates": known,
        }

    @classmethod
    def from_json(cls, content: Any) -> "ChoiceLimit":
        """The bound from the JSON data that `to_json` makes.

        Raises:
          InputError: the data are damaged.
        """
        try:
            measure, most, base = (content[name] for name in ("measure", "most", "base"))
            known = {str(name): tuple(map(str, each)) for name, each in content["candidates"].items()}
            tables = {
                tuple(Axis(str(name), int(row)) for name, row in axes): np.array(table, np.int64)
                for axes, table in content["tables"]
            }
            fits = all(table.shape == tuple(len(known[axis.name]) for axis in axes) for axes, table in tables.items())
        except (TypeError, KeyError, ValueError, AttributeError):
            fits, measure, most, base, tables, known = False, None, None, None, {}, {}
        if not fits or measure not in MEASURES or type(most) is not int or type(base) is not int:
            raise InputError(f"the budget of the search is damaged: {shown(content)}; use another checkpoint")
        return cls(ChoiceCost(measure, base, tables, known), most)


def choice_limits(limits: Any) -> tuple[ChoiceLimit, ...]:
    """Bounds as people give them.

    Args:
      limits: pairs of a cost and the most of it, a whole number or a text such as `50k`; a latency in nanoseconds.

    Raises:
      InputError: something else.
    """
    found = []
    for each in limits:
        if not isinstance(each, tuple) or len(each) != 2 or not isinstance(each[0], ChoiceCost):
            raise InputError(f"a limit is {shown(each)}; give a pair such as (costs['weights'], '50k')")
        found.append(ChoiceLimit(each[0], amount(each[1])))
    return tuple(found)
