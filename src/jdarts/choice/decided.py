"""The decided network of Linen: it runs and holds the chosen parts alone."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
from flax import nnx, traverse_util

from jdarts.choice.decisions import Choices, decisions_of
from jdarts.choice.slots import COLLECTION, ChoiceAlphas, Place, Slot
from jdarts.choice.tables import NamedAlphas
from jdarts.choice.variables import PARAMS, placed, split_variables
from jdarts.errors import InputError, shown

M = TypeVar("M", bound=nn.Module)

#: The attribute of a decided network with the names of what was chosen, by choice.
DECIDED = "jdarts_decided"


class Call(NamedTuple):
    """Example arguments of a network; their values do not count.

    Attributes:
      inputs: arrays, or their shapes and types.
      keywords: further arguments, such as `train`.
    """

    inputs: tuple[Any, ...]
    keywords: Mapping[str, Any]

    def shapes(self, network: nn.Module, part: Callable[[Any], Any] = lambda variables: variables) -> Any:
        """The shapes of a network's new variables, or of a part of them."""

        def init(key: jax.Array, *inputs: Any) -> Any:
            return part(network.init(key, *inputs, **self.keywords))

        return jax.eval_shape(init, jax.random.key(0), *self.inputs)


def choices_of(network: nn.Module, call: Call) -> dict[str, ChoiceAlphas]:
    """The choices of a network: their alphas by name, in shapes alone.

    Raises:
      InputError: it has none, or is no Linen network.
    """
    if not isinstance(network, nn.Module):
        other = ""
        if isinstance(network, nnx.Module):
            other = (
                "; jdarts.choice.nnx.decided decides a model of NNX, and jdarts.choice.bridged.bridged makes a Linen module "
                "of it"
            )
        raise InputError(f"network is {shown(type(network).__name__)}; give a flax.linen module{other}")
    return call.shapes(network, lambda variables: split_variables(variables)[1])


def decided(
    network: M, choices: Choices, variables: Mapping[str, Any], *inputs: Any, **call: Any
) -> tuple[M, dict[str, Any]]:
    """The network with the chosen parts alone, and their weights.

    Its output is that of the whole network at weights of 1 for what is chosen. It is a module as the network is: `init` makes
    new weights for its parts, and it trains as any other.

    Args:
      network: a network with choices, unbound.
      choices: as `decide` returns them.
      variables: weights of the whole network, `{"params": weights, **model_state}`; alphas among them do not count.
      *inputs: example inputs, or their shapes and types, as for `network.init`.
      **call: further arguments of the network, such as `train=False`.

    Returns:
      The network, and its variables.

    Raises:
      InputError: choices that do not fit the network, or variables of another one.
    """
    arguments = Call(inputs, call)
    alphas = choices_of(network, arguments)
    small = with_decisions(network, alphas, choices)
    widths = {
        (max(map(int, each.spec.candidates)), int(str(choices[name])))
        for name, each in alphas.items()
        if each.spec.kind == "widths" and not isinstance(choices[name], tuple)
    }
    own = {name: part for name, part in variables.items() if name != COLLECTION}
    return small, _fitted(own, arguments.shapes(small), widths)


def with_decisions(network: M, alphas: NamedAlphas, choices: Choices) -> M:
    """The decided network, without weights.

    Args:
      network: a network with choices, unbound.
      alphas: its choices, as `choices_of` returns them.
      choices: as `decide` returns them.
    """
    decisions = decisions_of(choices, alphas)
    small = with_slots(network, alphas, lambda name, _: decisions[name])
    # The class is that of this network alone. What keeps runs apart reads its decisions.
    setattr(type(small), DECIDED, {name: each.chosen for name, each in decisions.items()})
    return small


def with_slots(network: M, alphas: NamedAlphas, slot: Callable[[str, Place], Slot]) -> M:
    """The network with something given in the places of its choices.

    Args:
      network: a network with choices, unbound.
      alphas: its choices, as `choices_of` returns them.
      slot: from the name and a place of a choice to what stands there.
    """
    collection = placed(alphas, slot)

    def given(_: Any) -> Any:
        return {COLLECTION: collection}

    kind: Any = nn.map_variables(type(network), COLLECTION, trans_in_fn=given, init=False, mutable=False)
    fields = {name: getattr(network, name) for name in network.__dataclass_fields__ if name != "parent"}
    return kind(**fields)


def _fitted(variables: Mapping[str, Any], shapes: Mapping[str, Any], widths: set[tuple[int, int]]) -> dict[str, Any]:
    """The parts of variables that a smaller network has, with the first channels of a width that was chosen."""
    whole: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(dict(variables))
    targets: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(dict(shapes))
    parts = {}
    for path, target in targets.items():
        name = "/".join(map(str, path))
        if path not in whole:
            hint = "" if path[0] != PARAMS else f" (give {{'{PARAMS}': weights, **model_state}})"
            raise InputError(
                f"the variables have no {name}, which the decided network needs; give those of the network{hint}"
            )
        leaf = whole[path]
        sizes = list(zip(leaf.shape, target.shape))
        if len(leaf.shape) != len(target.shape) or any(old != new and (old, new) not in widths for old, new in sizes):
            raise InputError(
                f"{name} has shape {tuple(leaf.shape)}, and the decided network needs {tuple(target.shape)}: its first parts are "
                "not those of the chosen widths; give the network's own variables, and no reshape between a WidthChoice and "
                "the layer after it"
            )
        parts[path] = leaf[tuple(slice(0, new) for _, new in sizes)]
    return traverse_util.unflatten_dict(parts)
