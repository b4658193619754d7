"""Choices of a network as a table."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from jdarts.choice.decided import Call, choices_of, with_decisions
from jdarts.choice.deciding import decide
from jdarts.choice.decisions import Chosen
from jdarts.choice.slots import ChoiceAlphas
from jdarts.choice.tables import NamedAlphas, weights_of
from jdarts.choice.variables import PARAMS
from jdarts.methods.mixtures import PAPER
from jdarts.nets.counts import count_weights
from jdarts.relaxation import Mixture
from jdarts.report.cell_text import table_text
from jdarts.rich_forms import text_html


class ChoiceDescription(NamedTuple):
    """One choice.

    Attributes:
      name: of the choice.
      places: how often it stands in the network.
      weights: number of weights of each candidate by name, over all places; for widths those that the network has more than at
        the smallest width; None for inputs.
      mixture: weight of each candidate in the mixture, the mean over the layers of an `nn.scan`.
      chosen: what `jdarts.decide` chooses.
      margin: by how much the weights of those that are kept exceed the largest of the others; None if there are no others.
    """

    name: str
    places: int
    weights: Mapping[str, int] | None
    mixture: Mapping[str, float]
    chosen: Chosen
    margin: float | None


class ChoiceTable(tuple[ChoiceDescription, ...]):
    """The choices of a network in the order of their names; printed, a table."""

    def __str__(self) -> str:
        header = ("choice", "candidates: weight in the mixture (own weights)", "chosen", "margin")
        return table_text(header, [*map(_cells, self)])

    def _repr_html_(self) -> str:
        return text_html(str(self))


def describe_choices(
    network: nn.Module, alphas: NamedAlphas, *inputs: Any, mixture: str | Mixture = PAPER, **call: Any
) -> ChoiceTable:
    """Describes the choices of a Linen network. Nothing is computed or compiled but the mixture.

    Args:
      network: a network with choices, unbound.
      alphas: its alphas, as `split_variables` returns them.
      *inputs: example inputs, or their shapes and types, as for `network.init`.
      mixture: how alphas become weights.
      **call: further arguments of the network.

    Returns:
      The choices; `print` shows a table.

    Raises:
      InputError: the network has no choices.
    """
    arguments = Call(inputs, call)
    choices = choices_of(network, arguments)
    decisions = decide(alphas, mixture=mixture)
    params = arguments.shapes(network)[PARAMS]
    weights = weights_of(alphas, mixture)

    # The layers of an nn.scan agree in a decided network: the sizes are those with the first layer's decisions.
    agreed = {name: each[0] if alphas[name].values.ndim > 1 else each for name, each in decisions.items()}

    def size_at(name: str, candidate: str) -> int:
        small = with_decisions(network, choices, {**agreed, name: candidate})
        return count_weights(arguments.shapes(small).get(PARAMS, {}))

    described = []
    for name, each in alphas.items():
        of_mixture = np.asarray(weights[name], np.float64).reshape(-1, len(each.spec.candidates)).mean(axis=0)
        described.append(
            ChoiceDescription(
                name,
                len(each.places),
                _own_weights(name, each, params, size_at),
                dict(zip(each.spec.candidates, of_mixture.tolist())),
                decisions[name],
                _margin(of_mixture, each.spec.keep),
            )
        )
    return ChoiceTable(described)


def _own_weights(
    name: str, alphas: ChoiceAlphas, params: Any, size_at: Callable[[str, str], int]
) -> dict[str, int] | None:
    names = alphas.spec.candidates
    if alphas.spec.kind == "inputs":
        return None
    if alphas.spec.kind == "widths":
        sizes = {each: size_at(name, each) for each in names}
        return {each: size - min(sizes.values()) for each, size in sizes.items()}
    return {
        each: sum(count_weights(_below(params, (*around, each))) for around in alphas.candidate_paths) for each in names
    }


def _below(tree: Any, path: Sequence[str | int]) -> Any:
    for name in path:
        tree = tree.get(name, {}) if isinstance(tree, Mapping) else {}
    return tree


def _margin(weights: np.ndarray, keep: int) -> float | None:
    ranked = np.sort(weights)[::-1]
    return None if keep == len(ranked) else float(ranked[keep - 1] - ranked[keep])


def _cells(choice: ChoiceDescription) -> tuple[str, str, str, str]:
    sizes = choice.weights
    own = {name: "" if sizes is None else f" ({sizes[name]:,})" for name in choice.mixture}
    candidates = ", ".join(f"{name}: {weight:.3f}{own[name]}" for name, weight in choice.mixture.items())
    places = "" if choice.places == 1 else f" (in {choice.places} places)"
    chosen = ", ".join(map(str, jax.tree.leaves(choice.chosen)))
    margin = "" if choice.margin is None else f"{choice.margin:.3f}"
    return choice.name + places, candidates, chosen, margin
