"""Weights and multiply-adds of a network's decided networks, counted in the programs of the network."""

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jdarts.budget.cost import Measure
from jdarts.choice.cost import Axis, ChoiceCost
from jdarts.choice.decided import Call, choices_of, with_slots
from jdarts.choice.slots import COLLECTION, ChoiceAlphas, Decision
from jdarts.choice.tables import NamedAlphas
from jdarts.choice.variables import at_place
from jdarts.errors import InputError
from jdarts.nets.counts import Size, weight_sizes

_MEASURES: tuple[Measure, ...] = ("weights", "multiply_adds")
#: The largest number of combinations of choices that one weight may depend on.
_COMBINATIONS = 4096
#: Random combinations of widths by which the tables are checked, beside the smallest widths.
_CHECKS = 2

#: Sizes by the path of each weight.
Sizes = Mapping[tuple[str, ...], Size]
#: The width that is decided for each choice of widths.
Widths = Mapping[str, str]


def choice_costs(network: nn.Module, *inputs: Any, **call: Any) -> dict[Measure, ChoiceCost]:
    """Weights and multiply-adds of all decided networks of a Linen network with choices; nothing is computed or compiled.

    A decided network has the weights of its chosen candidates and what is outside of choices, and the multiply-adds of the
    convolutions and matrix products that read them. Parts that compute inputs which an `InputChoice` does not keep stay in the
    network, and count.

    Args:
      network: a network with choices, unbound.
      *inputs: example inputs, or their shapes and types, as for `network.init`; of one image for the multiply-adds of one.
      **call: further arguments of the network, such as `train=False`.

    Returns:
      The costs by measure: `weights`, `multiply_adds`.

    Raises:
      InputError: the network has no choices, or its costs are no sum of tables of few choices.
    """
    counter = _Counter.of(network, Call(inputs, call))
    widest = counter.sizes({})
    depends = counter.dependences(widest)
    tables: dict[Measure, dict[tuple[Axis, ...], np.ndarray]] = {measure: {} for measure in _MEASURES}
    base = dict.fromkeys(_MEASURES, 0)
    grids = counter.grids(set(depends.values()))
    for path in widest:
        for axes, table, measure in counter.parts(path, depends[path], grids):
            if axes:
                tables[measure][axes] = tables[measure].get(axes, 0) + table
            else:
                base[measure] += int(table)
    candidates = {name: each.spec.candidates for name, each in counter.choices.items()}
    costs: dict[Measure, ChoiceCost] = {
        measure: ChoiceCost(
            measure,
            base[measure],
            {axes: table for axes, table in tables[measure].items() if np.any(table)},
            candidates,
        )
        for measure in _MEASURES
    }
    counter.check(costs)
    return costs


class _Counter(NamedTuple):
    """A network whose parts are counted.

    Attributes:
      network: the network.
      call: its arguments.
      choices: by name, in shapes.
      counted: the sizes at widths that were counted before.
    """

    network: nn.Module
    call: Call
    choices: NamedAlphas
    counted: dict[tuple[tuple[str, str], ...], Sizes]

    @classmethod
    def of(cls, network: nn.Module, call: Call) -> "_Counter":
        return cls(network, call, choices_of(network, call), {})

    @property
    def widths(self) -> dict[str, tuple[str, ...]]:
        """The choices of widths, each with its widths from the largest on."""
        return {
            name: tuple(sorted(each.spec.candidates, key=int, reverse=True))
            for name, each in self.choices.items()
            if each.spec.kind == "widths"
        }

    def sizes(self, widths: Widths) -> Sizes:
        """The sizes of all weights, those of all candidates, at decided widths; those that are not given are the widest."""
        decided = {name: widths.get(name, each[0]) for name, each in self.widths.items()}
        key = tuple(sorted(decided.items()))
        if key not in self.counted:
            self.counted[key] = self._count(decided)
        return self.counted[key]

    def _count(self, widths: Widths) -> Sizes:
        def slot(name: str, place: Any) -> Any:
            if name in widths:
                return Decision((widths[name],))
            each = self.choices[name]
            return ChoiceAlphas(at_place(jnp.zeros(each.values.shape, each.values.dtype), place), each.spec)

        network = with_slots(self.network, self.choices, slot) if widths else self.network
        try:
            variables = self.call.shapes(network)
        except InputError as error:
            raise InputError(
                f"the network cannot be counted at the widths {_words(widths)}: {error}; give candidates of one choice the same "
                "shape at every width, by a WidthChoice outside of it or by widths with the same shared="
            ) from None

        def apply(variables: Any, *inputs: Any) -> Any:
            rngs = {name: jax.random.key(0) for name in ("dropout", "noise")}
            return network.apply(variables, *inputs, rngs=rngs, mutable=_mutable(variables), **self.call.keywords)

        return weight_sizes(apply, variables, *self.call.inputs)

    def dependences(self, widest: Sizes) -> dict[tuple[str, ...], tuple[str, ...]]:
        """The choices of widths on which the size of each weight depends."""
        found: dict[tuple[str, ...], list[str]] = {path: [] for path in widest}
        for name, widths in self.widths.items():
            for path, size in self.sizes({name: widths[-1]}).items():
                if size != widest[path]:
                    found[path].append(name)
        return {path: tuple(names) for path, names in found.items()}

    def grids(self, wanted: set[tuple[str, ...]]) -> dict[tuple[str, ...], dict[tuple[str, ...], Sizes]]:
        """The sizes at all combinations of some choices of widths; counts of different choices share programs."""
        widths = self.widths
        found: dict[tuple[str, ...], dict[tuple[str, ...], Sizes]] = {names: {} for names in wanted}
        left = []
        for names in sorted(wanted):
            if math.prod(len(widths[name]) for name in names) > _COMBINATIONS:
                raise InputError(
                    f"the size of a weight depends on the widths {', '.join(names)} at once; give fewer widths, or the same "
                    "shared= to some of them"
                )
            left += [dict(zip(names, each)) for each in itertools.product(*(widths[name] for name in names))]
        while left:
            together: dict[str, str] = {}
            taken, later = [], []
            for each in left:
                if all(together.get(name, width) == width for name, width in each.items()):
                    together |= each
                    taken.append(each)
                else:
                    later.append(each)
            left = later
            sizes = self.sizes(together)
            for each in taken:
                found[tuple(each)][tuple(each.values())] = sizes
        return found

    def parts(
        self, path: tuple[str, ...], widths: tuple[str, ...], grids: Mapping[tuple[str, ...], Mapping[Any, Sizes]]
    ) -> Iterator[tuple[tuple[Axis, ...], np.ndarray, Measure]]:
        """What a weight adds: tables over the candidates that it is part of, and over the widths of its axes."""
        inside = self.inside(path)
        names = tuple(sorted({*inside, *widths}))
        shape = [len(self.choices[name].spec.candidates) for name in names]
        if math.prod(shape) > _COMBINATIONS:
            raise InputError(
                f"the weight {'/'.join(path)} depends on {len(names)} choices at once ({', '.join(names)}); give fewer choices "
                "inside each other"
            )
        layers = self._layers(path, names)
        for measure in _MEASURES:
            table = np.zeros(shape, np.int64)
            for index in np.ndindex(*shape):
                chosen = {name: self.choices[name].spec.candidates[place] for name, place in zip(names, index)}
                if all(chosen[name] in among for name, among in inside.items()):
                    sizes = grids[widths][tuple(chosen[name] for name in widths)]
                    table[index] = getattr(sizes[path], measure)
            if np.any(table % layers):
                raise InputError(
                    f"the weight {'/'.join(path)} depends on choices of the layers of an nn.scan ({', '.join(names)}), and is "
                    "not of these layers alone; give variable_broadcast='alphas' to the scan"
                )
            for row in range(layers):
                yield tuple(Axis(name, row if self._rows(name) > 1 else 0) for name in names), table // layers, measure

    def inside(self, path: tuple[str, ...]) -> dict[str, set[str]]:
        """The candidates inside of which a weight is, by their choice; the choice is not kept for any other."""
        found: dict[str, set[str]] = {}
        for name, each in self.choices.items():
            for around in each.candidate_paths:
                before, rest = path[: len(around)], path[len(around) :]
                if each.spec.kind == "candidates" and before == around and rest:
                    own = {rest[0]}
                    found[name] = found[name] & own if name in found else own
        return found

    def _rows(self, name: str) -> int:
        return math.prod(self.choices[name].values.shape[:-1])

    def _layers(self, path: tuple[str, ...], names: Sequence[str]) -> int:
        """The number of layers in which a weight is, as the alphas count them."""
        counts = {self._rows(name) for name in names} - {1}
        if len(counts) > 1:
            raise InputError(
                f"the weight {'/'.join(path)} depends on choices of scans of different lengths ({', '.join(names)}); give "
                "variable_broadcast='alphas' to one of the scans"
            )
        return next(iter(counts), 1)

    def check(self, costs: Mapping[Measure, ChoiceCost]) -> None:
        """Counts some decided networks as a whole.

        Raises:
          InputError: the tables give another number.
        """
        if not self.widths:
            return
        draw = random.Random(0)
        smallest = {name: each[-1] for name, each in self.widths.items()}
        drawn = [{name: draw.choice(each) for name, each in self.widths.items()} for _ in range(_CHECKS)]
        for widths in (smallest, *drawn):
            sizes = self.sizes(widths)
            chosen = {
                name: draw.choice(alphas.spec.candidates)
                for name, alphas in self.choices.items()
                if alphas.spec.kind == "candidates"
            }
            there = [
                size
                for path, size in sizes.items()
                if all(chosen[name] in among for name, among in self.inside(path).items())
            ]
            given = {name: (each,) * self._rows(name) for name, each in {**chosen, **widths}.items()}
            for measure, cost in costs.items():
                if cost.of(given) != sum(getattr(size, measure) for size in there):
                    raise InputError(
                        f"the {measure} of the network at the widths {_words(widths)} are no sum over its choices; give widths "
                        "that act on the layers next to them alone"
                    )


def _mutable(variables: Mapping[str, Any]) -> list[str]:
    return [name for name in variables if name not in ("params", COLLECTION)]


def _words(widths: Widths) -> str:
    return ", ".join(f"{name} {width}" for name, width in widths.items())
