"""How a run calls a Linen network that somebody else wrote."""

import hashlib
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
from flax import nnx

from jdarts.choice.mixing import arguments_for
from jdarts.errors import InputError, shown


def check_network(network: object, *, choices: bool) -> nn.Module:
    """The network, if it is a Linen module.

    Args:
      network: what was given.
      choices: whether it needs choices.

    Raises:
      InputError: it is none.
    """
    if not isinstance(network, nn.Module):
        what = " with jdarts.Choice in it" if choices else ""
        steps = "; a model of NNX takes its steps by jdarts.bilevel_step" if isinstance(network, nnx.Module) else ""
        raise InputError(f"network is {shown(type(network).__name__)}; give a flax.linen module{what}{steps}")
    return network


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
