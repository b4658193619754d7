"""How a run calls a network that somebody else wrote. Inside of a run a model of NNX is a Linen module."""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
from flax import nnx

from jdarts.choice.bridged import Bridged, bridged
from jdarts.choice.mixing import arguments_for
from jdarts.errors import InputError, shown
from jdarts.nets.initial import from_one_draw

#: A Linen network, a model of NNX, or what makes one.
Network = nn.Module | nnx.Module | Callable[[nnx.Rngs], nnx.Module]


def check_network(network: object, *, choices: bool) -> nn.Module:
    """The network as a Linen module.

    Args:
      network: what was given.
      choices: whether it needs choices.

    Raises:
      InputError: it is none, nor a model of NNX.
    """
    if isinstance(network, nn.Module):
        return network
    if isinstance(network, type) and issubclass(network, nn.Module):
        raise InputError(f"network is the class {network.__name__}; give a module of it, such as {network.__name__}()")
    if isinstance(network, nnx.Module) or callable(network):
        return bridged(network)
    what = " with jdarts.Choice in it" if choices else ""
    raise InputError(
        f"network is {shown(type(network).__name__)}; give a flax.linen module{what}, or a model of flax.nnx or its class"
    )


def drawn(network: Any, init: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    """New variables of a network, from one draw of random numbers unless its weights are fixed.

    Args:
      network: a Linen module.
      init: from a key to its variables.
    """
    return init if isinstance(network, Bridged) and network.model.is_fixed else from_one_draw(init)


def mode(network: Any, *, train: bool) -> dict[str, Any]:
    """The keywords of the network's call that say whether it is in training mode; none if it has no such mode."""
    return arguments_for(network.__call__, {"train": train})


def on_axis(network: Any, axis_name: str | None) -> Any:
    """The network with the name of the axis of devices, if it has a field `axis_name`."""
    if axis_name is None or not hasattr(network, "axis_name"):
        return network
    return network.clone(axis_name=axis_name)


def streams(key: jax.Array) -> dict[str, jax.Array]:
    """The random numbers of a network in a pass: streams of other names than `dropout` come from `params`, as Linen has it."""
    return {"dropout": key, "params": jax.random.fold_in(key, 1)}


def identity_of(network: nn.Module, weights: Any, facts: Iterable[str]) -> str:
    """What identifies a network when a run resumes: its class, the names and shapes of its weights, and further facts."""
    leaves = [f"{jax.tree_util.keystr(path)} {leaf.shape}" for path, leaf in jax.tree.leaves_with_path(weights)]
    digest = hashlib.sha256("\n".join([*facts, *leaves]).encode()).hexdigest()[:16]
    return f"{class_name(network)} {digest}"


def class_name(network: object) -> str:
    """The name of the network's class, as its writer gave it."""
    return type(network).__name__.removeprefix("Map_variables")
