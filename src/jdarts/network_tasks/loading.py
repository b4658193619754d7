"""What the runs of the user's own network have found: choices, weights, and predictions."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from flax import errors, nnx

from jdarts import checkpoint
from jdarts.choice.bridged import with_values
from jdarts.choice.deciding import Chosen
from jdarts.errors import InputError, one_line
from jdarts.network_tasks.calling import check_network, mode
from jdarts.runs.store import BEST

M = TypeVar("M", bound=nnx.Module)


class FoundNetwork(NamedTuple):
    """What a search in your own network has found.

    Attributes:
      choices: as `jdarts.decide` returns them.
      alphas: `{name of the choice: [E, O]}`.
      variables: weights and model state of the whole network, for `jdarts.decided`.
    """

    choices: dict[str, Chosen]
    alphas: dict[str, np.ndarray]
    variables: dict[str, Any]


def load_search(path: str | os.PathLike[str]) -> FoundNetwork:
    """Loads what a search in your own network has found, so that `jdarts.decided` makes the small network.

    Args:
      path: the folder of the search, whose newest checkpoint is loaded, or one checkpoint of it.

    Raises:
      InputError: the path is no such thing, or damaged.
    """
    saved = checkpoint.find(Path(path), [])
    record: Any = saved.record
    if "choices" not in record:
        raise InputError(f"{saved.path} is not of a search in a network with choices; give the --run-dir of one")
    state = jax.device_get(checkpoint.load_all(saved)["bilevel"])
    choices = {name: chosen_from_json(each) for name, each in record["choices"].items()}
    return FoundNetwork(
        choices, dict(state["alphas"]), {"params": state["weights"], **_collections(state["model_state"])}
    )


def load_variables(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Loads the variables of your own network after its training: `{"params": weights, **model_state}`.

    Args:
      path: the folder of the training, whose best checkpoint is loaded, or else the newest; or one checkpoint of it.

    Raises:
      InputError: the path is no such thing, or damaged.
    """
    best = Path(path) / BEST
    saved = (checkpoint.newest(best, []) if best.is_dir() else None) or checkpoint.find(Path(path), [])
    if "network" not in saved.record or "genotype" in saved.record:
        raise InputError(
            f"{saved.path} is not of a training of a network of your own; give the folder of one (jdarts.load reads a "
            "training of cells, jdarts.load_search a search)"
        )
    state = jax.device_get(checkpoint.load_all(saved))
    return state["average"] or {"params": state["weights"], **_collections(state["model_state"])}


def load_model(model: M, path: str | os.PathLike[str]) -> M:
    """Loads a model of NNX as a run leaves it.

    Args:
      model: the model that the search or the training had, or one with the same variables.
      path: as for `load_search`, or as for `load_variables`.

    Returns:
      A copy with the weights and all other variables of the run; after a search also with its alphas, so that
      `jdarts.choice.nnx.decided(model, result.choices)` keeps the searched weights.

    Raises:
      InputError: the path is no such thing, or the run is of another model.
    """
    is_search = not (Path(path) / BEST).is_dir() and "choices" in checkpoint.find(Path(path), []).record
    found = load_search(path) if is_search else FoundNetwork({}, {}, load_variables(path))
    return with_values(model, found.variables, found.alphas)


def predictor(network: object, path: str | os.PathLike[str]) -> Callable[..., np.ndarray]:
    """Your own trained network as a function of its inputs.

    Args:
      network: the network that was trained, such as the one that `jdarts.decided` returns.
      path: as for `load_variables`.

    Returns:
      A function from the arguments of the network to its outputs, in evaluation mode. It compiles for each new shape.

    Raises:
      InputError: as for `load_variables`, or the weights are those of another network.
    """
    module: Any = check_network(network, choices=False)
    # The weights are arguments: constants would slow the compiler down.
    variables = jax.device_put(load_variables(path))

    @jax.jit
    def outputs(variables: Any, *inputs: Any) -> Any:
        return module.apply(variables, *inputs, **mode(module, train=False))

    def predict(*inputs: Any) -> Any:
        try:
            return jax.tree.map(np.asarray, outputs(variables, *inputs))
        except (errors.ScopeParamNotFoundError, errors.ScopeParamShapeError, errors.ScopeCollectionNotFound) as error:
            raise InputError(
                f"{path} holds the weights of another network or for other inputs: {one_line(error)}"
            ) from error

    return predict


def _collections(model_state: Any) -> dict[str, Any]:
    return dict(model_state) if model_state else {}


def chosen_from_json(chosen: Any) -> Any:
    """A decision as `jdarts.decide` returns it, from its JSON data."""
    return tuple(map(chosen_from_json, chosen)) if isinstance(chosen, list) else chosen
