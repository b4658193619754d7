"""Weights of the reference implementation in our networks."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.errors import InputError
from jdarts.nets.discrete import DiscreteNetwork, init_shapes
from jdarts.nets.reference_names import discrete_entries

AUXILIARY = "auxiliary_head."
#: What PyTorch counts beside a batch norm's statistics, and nothing reads.
_COUNTER = ".num_batches_tracked"


def import_weights(network: DiscreteNetwork, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a discrete network from arrays with the reference implementation's names and layouts.

    Args:
      network: the network that they belong to. An auxiliary head that it does not have is passed over.
      arrays: by the names of a PyTorch `state_dict`, with or without the `module.` of a parallel one; batch norm buffers
        included.

    Returns:
      `{'params': …, 'batch_stats': …}`, of the network's type.

    Raises:
      InputError: an array is missing, does not fit, or belongs to no part of the network; the message names the first.
    """
    arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
    image_channels = np.shape(arrays.get("stem.0.weight", arrays.get("stem0.0.weight", np.zeros((1, 3)))))[1]
    expected = init_shapes(network, image_channels)
    variables: dict[str, Any] = {}
    used = set()
    for entry in discrete_entries(network):
        shape = _at(expected, entry.path).shape
        theirs = entry.layout.shape(shape[1:] if entry.stacked else shape)
        parts = []
        for name in entry.names:
            if name not in arrays:
                raise InputError(
                    f"the checkpoint has no {name}; it is of another architecture: {_shown(network)} needs it"
                )
            array = np.asarray(arrays[name])
            if array.shape != theirs:
                raise InputError(
                    f"the checkpoint's {name} has shape {array.shape}; {_shown(network)} needs {theirs}: give the genotype, "
                    "channels, cells and classes that it was trained with"
                )
            parts.append(entry.layout.convert(array))
        used.update(entry.names)
        value = np.stack(parts) if entry.stacked else parts[0]
        *modules, leaf = entry.path
        inner = variables
        for module in modules:
            inner = inner.setdefault(module, {})
        inner[leaf] = jnp.asarray(value, network.dtype)
    foreign = [name for name in arrays if name not in used and not name.endswith(_COUNTER)]
    if not network.auxiliary:
        foreign = [name for name in foreign if not name.startswith(AUXILIARY)]
    if foreign:
        raise InputError(
            f"the checkpoint's {foreign[0]} has no place in {_shown(network)}; it is of another architecture"
        )
    return variables


def _at(tree: Mapping[str, Any], path: tuple[str, ...]) -> jax.ShapeDtypeStruct:
    node: Any = tree
    for name in path:
        node = node[name]
    return node


def _shown(network: DiscreteNetwork) -> str:
    head = "" if network.auxiliary else ", without auxiliary head"
    return (
        f"this {network.stem} network ({network.channels} channels, {network.cells} cells, {network.classes} "
        f"classes{head})"
    )
