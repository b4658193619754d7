"""Imports weights of the reference implementation."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.errors import InputError
from jdarts.files.arrays import StoredArray, read_arrays
from jdarts.files.safetensors import read_safetensors
from jdarts.genotype import Genotype
from jdarts.nets.discrete import DiscreteNetwork, check_network, init_shapes
from jdarts.nets.reference_names import discrete_entries
from jdarts.nets.stem import STEM_MULTIPLIER, Stem
from jdarts.trained.torch_file import read_torch_file

AUXILIARY = "auxiliary_head."
_CELL = re.compile(r"cells\.(\d{1,4})\.")
#: Counters of PyTorch (batch norms, averaged weights) and of thop (every layer), which nothing here uses.
_COUNTERS = frozenset({"num_batches_tracked", "n_averaged", "total_ops", "total_params"})
#: Weights of every network: the stem's first one, by the kind of stem, and the last one.
_FIRST: Mapping[Stem, str] = {"cifar": "stem.0.weight", "imagenet": "stem0.0.weight"}
_LAST = "classifier.weight"
#: Names that only a search network has, here and in other implementations: the alphas, or several operations on an edge.
_SEARCH_NAMES = re.compile(
    r"(^|\.)(_?(alphas?|betas?|arch)_(normal|reduce|parameters)|_?arch_parameters|alphas?)(\.|$)|(\._ops\.\d+){2}\."
)


def import_weights(network: DiscreteNetwork, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a discrete network from arrays with the reference implementation's names and layouts.

    Args:
      network: the network. If it has no auxiliary head, arrays of one are ignored.
      arrays: the arrays of a PyTorch `state_dict` by name, with the buffers of batch norms. A prefix that all names share, such
        as the `module.` of a parallel network, is removed; arrays without the prefix of the network are ignored.

    Returns:
      `{'params': …, 'batch_stats': …}` in the network's dtype.

    Raises:
      InputError: an array is missing, does not fit, holds a value that is not finite, or is not part of the network; the
        message names the first.
    """
    arrays = _without_prefix(arrays)
    stem = arrays.get(_FIRST[network.stem], np.zeros((1, 3)))
    # If it has another number of axes, the comparison of shapes below refuses it.
    image_channels = (*np.shape(stem), 1, 1)[1]
    expected = init_shapes(network, image_channels)
    variables: dict[str, Any] = {}
    used = set()
    for entry in discrete_entries(network):
        shape = _leaf_at(expected, entry.path).shape
        torch_shape = entry.layout.shape(shape[1:] if entry.stacked else shape)
        parts = []
        for name in entry.names:
            if name not in arrays:
                raise InputError(
                    f"the checkpoint has no {name}; it is of another architecture: {_shown(network)} needs it"
                )
            # Numbers are read only if the shape fits.
            shape = np.shape(arrays[name])
            if shape != torch_shape:
                raise InputError(
                    f"the checkpoint's {name} has shape {shape}; {_shown(network)} needs {torch_shape}: give the genotype, "
                    "channels, cells and classes that it was trained with"
                )
            array = np.asarray(arrays[name])
            if not jnp.issubdtype(array.dtype, jnp.floating):
                raise InputError(f"the checkpoint's {name} is of the type {array.dtype}; weights are floats")
            with np.errstate(over="ignore"):
                array = array.astype(network.dtype, copy=False)
            if not np.isfinite(array).all():
                raise InputError(
                    f"the checkpoint's {name} holds values that are not finite (NaN or infinity) in the network's type: its "
                    "training has diverged; give an earlier checkpoint"
                )
            parts.append(entry.layout.convert(array))
        used.update(entry.names)
        value = np.stack(parts) if entry.stacked else parts[0]
        *modules, leaf = entry.path
        inner = variables
        for module in modules:
            inner = inner.setdefault(module, {})
        inner[leaf] = jnp.asarray(value, network.dtype)
    unknown = [name for name in arrays if name not in used]
    if not network.auxiliary:
        unknown = [name for name in unknown if not name.startswith(AUXILIARY)]
    if unknown:
        raise InputError(
            f"the checkpoint's {unknown[0]} has no place in {_shown(network)}; it is of another architecture"
        )
    return variables


def read_state_dict(path: Path) -> Mapping[str, np.ndarray | StoredArray]:
    """The arrays of a PyTorch `state_dict`, from a file of `torch.save`, an `.npz` or `.safetensors` with the same names.

    Raises:
      InputError: the file is missing, damaged or of another kind, or a `.pt` file that needs other classes than tensors.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    return read_arrays(path) if path.suffix == ".npz" else read_torch_file(path)


def infer_network(
    arrays: Mapping[str, Any],
    genotype: Genotype,
    *,
    stem: Stem | None = None,
    channels: int | None = None,
    cells: int | None = None,
    classes: int | None = None,
    dtype: Any = jnp.float32,
) -> DiscreteNetwork:
    """Infers the network of a PyTorch `state_dict` from the names and shapes of its arrays.

    Args:
      arrays: as for `import_weights`.
      genotype: both cells, which a checkpoint does not contain.
      stem: the stem; this and the next three are inferred if they are None.
      channels: channels of the first cells.
      cells: number of cells.
      classes: number of classes.
      dtype: type of weights and computation.

    Raises:
      InputError: an argument contradicts the arrays, or they are not those of such a network.
    """
    shapes = {name: np.shape(array) for name, array in _without_prefix(arrays).items()}
    if search_name := next((name for name in (*shapes, *arrays) if _SEARCH_NAMES.search(name)), None):
        raise InputError(
            f"the checkpoint has {search_name[:80]}: it holds the weights of a search, with all operations on every edge; train "
            "the network of the cells that the search found, and give its weights"
        )
    numbers = [int(match[1]) for name in shapes if (match := _CELL.match(name))]
    inferred_stem: Stem = "imagenet" if _FIRST["imagenet"] in shapes else "cifar"
    first = "stem0.3.weight" if inferred_stem == "imagenet" else "stem.0.weight"
    missing = [name for name in (first, _LAST) if len(shapes.get(name, ())) < 2]
    if missing or not numbers:
        raise InputError(
            f"the checkpoint has no {missing[0] if missing else 'cells.0'}; it is not a network of quark0/darts for images"
        )
    inferred = {
        "stem": inferred_stem,
        "channels": shapes[first][0] // (1 if inferred_stem == "imagenet" else STEM_MULTIPLIER),
        "cells": 1 + max(numbers),
        "classes": shapes[_LAST][0],
    }
    given = {"stem": stem, "channels": channels, "cells": cells, "classes": classes}
    for name, value in given.items():
        if value is not None and value != inferred[name]:
            what = "network" if name == "stem" else name
            raise InputError(
                f"{what} is {value}, but the checkpoint's network has {what} {inferred[name]}; give {inferred[name]}, or leave "
                "it out"
            )
    auxiliary = any(name.startswith(AUXILIARY) for name in shapes)
    network = DiscreteNetwork(genotype, **inferred, auxiliary=auxiliary, dtype=dtype)
    check_network(network)
    return network


def _without_prefix(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The network's arrays without the prefix, up to a dot, that all their names share."""
    arrays = {name: array for name, array in arrays.items() if name.rpartition(".")[2] not in _COUNTERS}
    prefixes = {name.removesuffix(_LAST) for name in arrays if f".{name}".endswith(f".{_LAST}")}
    networks = [prefix for prefix in prefixes if any(f"{prefix}{first}" in arrays for first in _FIRST.values())]
    if len(networks) == 1:
        (prefix,) = networks
        return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    levels = zip(*(name.split(".")[:-1] for name in arrays))
    shared = sum(1 for _ in itertools.takewhile(lambda level: len(set(level)) == 1, levels))
    return {".".join(name.split(".")[shared:]): array for name, array in arrays.items()}


def _leaf_at(tree: Mapping[str, Any], path: tuple[str, ...]) -> jax.ShapeDtypeStruct:
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
