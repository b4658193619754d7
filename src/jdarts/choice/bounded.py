"""The best decisions within bounds: the largest sum of strengths of networks that keep every bound, by integer programming.

Every table of a cost over several decisions has a variable for each of its entries, between 0 and 1, whose sums along the axes
are the decisions: where these are whole, it is 1 for the entry that they choose.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jdarts.budget.amounts import amount_text
from jdarts.budget.integer_program import Program, at_most
from jdarts.choice.cost import Axis, ChoiceCost, ChoiceLimit
from jdarts.choice.decisions import Choices, Chosen, allowed_candidates, chosen_of
from jdarts.choice.tables import NamedAlphas
from jdarts.errors import InputError


def bounded_choices(
    strengths: Mapping[str, np.ndarray], alphas: NamedAlphas, limits: Sequence[ChoiceLimit], never: Collection[str] = ()
) -> dict[str, Chosen]:
    """The decisions with the largest sum of strengths whose networks keep all bounds, to the unit.

    The strengths of all decisions count, even of those inside candidates that are not chosen.

    Args:
      strengths: of the candidates of each choice, `[E, O]`.
      alphas: the choices.
      limits: the bounds.
      never: as for `jdarts.decide`.

    Raises:
      InputError: no decisions keep the bounds.
    """
    problem = _Problem.of(alphas, [limit.cost for limit in limits], never)
    for limit in limits:
        least = problem.least(limit.cost)
        if least > limit.most:
            measure = limit.cost.measure
            raise InputError(
                f"the bound is {amount_text(measure, limit.most)}, and the smallest network of these choices has "
                f"{amount_text(measure, least)}; give that or more"
            )
    program = problem.program(limits)
    gains = np.zeros(problem.size)
    for axis, first in problem.places.items():
        row = strengths[axis.name][axis.row]
        gains[first : first + len(row)] = row - row.min()
    for found in program.solutions(gains):
        choices = problem.choices(found)
        if keeps(choices, limits):
            return choices
    bounds = " and ".join(amount_text(limit.cost.measure, limit.most) for limit in limits)
    raise InputError(f"no choices keep {bounds} together, though some keep each of them; raise one of the bounds")


def check_costs(limits: Sequence[ChoiceLimit], alphas: NamedAlphas) -> None:
    """Checks that costs are those of a network with these choices.

    Raises:
      InputError: they are of other ones.
    """
    own = {name: each.spec.candidates for name, each in alphas.items()}
    for limit in limits:
        if (known := dict(limit.cost.candidates)) != own:
            raise InputError(
                f"the costs are of the choices {', '.join(known)}, and the alphas of {', '.join(own) or 'none'}, or their "
                "candidates differ; give the costs of the same network"
            )


def keeps(choices: Choices, limits: Sequence[ChoiceLimit]) -> bool:
    """Whether the network of choices keeps all bounds."""
    return all(limit.cost.of(choices) <= limit.most for limit in limits)


def least_cost(cost: ChoiceCost, alphas: NamedAlphas) -> int:
    """The smallest cost of a decided network."""
    return _Problem.of(alphas, [cost], ()).least(cost)


class _Problem(NamedTuple):
    """The variables of the program, and what holds for them without bounds.

    Attributes:
      alphas: the choices.
      places: the first variable of each decision; it has one for each candidate.
      joint: the first variable of each table over several decisions; it has one for each entry.
      size: the number of all variables.
      rows: sums of variables, with their smallest and largest values.
    """

    alphas: NamedAlphas
    places: Mapping[Axis, int]
    joint: Mapping[tuple[Axis, ...], int]
    size: int
    rows: list[tuple[np.ndarray, float, float]]

    @classmethod
    def of(cls, alphas: NamedAlphas, costs: Sequence[ChoiceCost], never: Collection[str]) -> "_Problem":
        places: dict[Axis, int] = {}
        size = 0
        for name, each in alphas.items():
            for row in range(int(np.prod(each.values.shape[:-1], dtype=int))):
                places[Axis(name, row)] = size
                size += each.values.shape[-1]
        joint: dict[tuple[Axis, ...], int] = {}
        for axes, table in itertools.chain.from_iterable(cost.tables.items() for cost in costs):
            if len(axes) > 1 and axes not in joint:
                joint[axes] = size
                size += table.size
        rows: list[tuple[np.ndarray, float, float]] = []

        def sum_of(variables: np.ndarray) -> np.ndarray:
            row = np.zeros(size)
            row[variables] = 1.0
            return row

        for axis, first in places.items():
            spec = alphas[axis.name].spec
            rows.append((sum_of(np.arange(first, first + len(spec.candidates))), spec.keep, spec.keep))
            allowed = allowed_candidates(spec, never)
            for index in range(len(spec.candidates)):
                if index not in allowed:
                    rows.append((sum_of(np.array([first + index])), 0, 0))
        for axes, first in joint.items():
            shape = [alphas[axis.name].values.shape[-1] for axis in axes]
            entries = first + np.arange(np.prod(shape)).reshape(shape)
            for number, axis in enumerate(axes):
                for index, along in enumerate(np.moveaxis(entries, number, 0)):
                    row = sum_of(along.ravel())
                    row[places[axis] + index] = -1.0
                    rows.append((row, 0, 0))
        return cls(alphas, places, joint, size, rows)

    def program(self, limits: Sequence[ChoiceLimit]) -> Program:
        """The program within bounds."""
        bounds = [at_most(self._costs(limit.cost), limit.most - limit.cost.base) for limit in limits]
        whole = np.zeros(self.size, bool)
        whole[: min(self.joint.values(), default=self.size)] = True
        return Program.of(whole, [*self.rows, *bounds])

    def least(self, cost: ChoiceCost) -> int:
        """The smallest cost."""
        found = self.program([]).best(-self._costs(cost).astype(float))
        assert found is not None
        return cost.of(self.choices(found))

    def _costs(self, cost: ChoiceCost) -> np.ndarray:
        """What each variable adds to a cost."""
        added = np.zeros(self.size, np.int64)
        for axes, table in cost.tables.items():
            first = self.joint[axes] if len(axes) > 1 else self.places[next(iter(axes))]
            added[first : first + table.size] += table.ravel()
        return added

    def choices(self, found: np.ndarray) -> dict[str, Chosen]:
        """The decisions of a solution."""
        chosen: dict[str, Chosen] = {}
        for name, each in self.alphas.items():
            size, first = int(np.prod(each.values.shape)), self.places[Axis(name, 0)]
            rows = found[first : first + size].reshape(-1, each.values.shape[-1])
            chosen[name] = chosen_of([np.flatnonzero(row).tolist() for row in rows], each)
        return chosen
