"""The variables of a network with choices, in parts: weights, alphas by name, and what else there is."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from jdarts.choice.slots import COLLECTION, ENTRY, ChoiceAlphas, ChoiceSpec, Place, Slot
from jdarts.choice.tables import NamedAlphas, mixture_for, space_of, with_tables
from jdarts.errors import InputError, shown
from jdarts.methods.mixtures import PAPER
from jdarts.relaxation import Mixture

PARAMS = "params"


def split_variables(
    variables: Mapping[str, Any], *, key: jax.Array | None = None, mixture: str | Mixture = PAPER
) -> tuple[Any, dict[str, ChoiceAlphas], dict[str, Any]]:
    """Splits the variables of a Linen network with choices.

    Args:
      variables: as `network.init` returns them.
      key: draws the alphas as the mixture begins them, near 0 for the softmax; None for those of the variables, zeros at first.
      mixture: how alphas become weights, by its name in `jdarts.methods.mixtures.MIXTURES`.

    Returns:
      `weights` (the collection `params`), `alphas` by name of choice, and `model_state` (all other collections). The name of a
      choice is its path, such as `encoder/block0`, or the name of the alphas that it shares.

    Raises:
      InputError: the network has no choices, or choices that share alphas have different candidates.
    """
    rest = {name: part for name, part in variables.items() if name not in (PARAMS, COLLECTION)}
    slots = _slots(variables.get(COLLECTION, {}))
    if not slots:
        raise InputError(
            "the network has no choices; put a jdarts.Choice into it (a jdarts.choice.nnx.Choice into a model of NNX), and give "
            "all variables that network.init returns"
        )
    alphas = named_alphas(slots)
    if key is not None:
        alphas = drawn_alphas(key, alphas, mixture)
    return variables.get(PARAMS, {}), alphas, rest


def _slots(collection: Mapping[str, Any]) -> dict[tuple[str | int, ...], ChoiceAlphas]:
    flat = traverse_util.flatten_dict(dict(collection), is_leaf=lambda _, each: not isinstance(each, Mapping))
    return {path[:-1]: each for path, each in flat.items() if isinstance(each, ChoiceAlphas)}


def named_alphas(slots: Mapping[tuple[str | int, ...], ChoiceAlphas]) -> dict[str, ChoiceAlphas]:
    """The alphas by name of choice, of the places where choices stand.

    Args:
      slots: alphas by path.

    Raises:
      InputError: choices of one name have different candidates.
    """
    alphas: dict[str, ChoiceAlphas] = {}
    for path, slot in sorted(slots.items(), key=lambda item: tuple(map(str, item[0]))):
        name = slot.spec.shared or "/".join(map(str, path)) or ENTRY
        place = Place(tuple(path), tuple(slot.values.shape[:-1]))
        if name in alphas:
            _check_shared(name, alphas[name].spec, slot.spec)
            alphas[name] = alphas[name].replace(places=(*alphas[name].places, place))
            continue
        values = slot.values[(0,) * len(place.rows)] if slot.spec.shared else slot.values
        alphas[name] = ChoiceAlphas(values, slot.spec, (place,))
    return alphas


def _check_shared(name: str, first: ChoiceSpec, second: ChoiceSpec) -> None:
    if first != second:
        raise InputError(
            f"two choices have the name {shown(name)}, and differ: {first.kind} {', '.join(first.candidates)}, and {second.kind} "
            f"{', '.join(second.candidates)}; give the same candidates to choices that share alphas, and other names to others"
        )


def drawn_alphas(key: jax.Array, alphas: NamedAlphas, mixture: str | Mixture = PAPER) -> dict[str, ChoiceAlphas]:
    """The alphas at the start of a search, as the mixture draws them.

    Args:
      key: a PRNG key.
      alphas: those of the choices, or their shapes.
      mixture: how alphas become weights.
    """
    dtype = jnp.result_type(*(each.values.dtype for each in alphas.values()))
    return with_tables(alphas, mixture_for(mixture).init(key, space_of(alphas), dtype))


def placed(alphas: NamedAlphas, slot: Callable[[str, Place], Slot]) -> dict[str, Any]:
    """The collection of alphas of a network.

    Args:
      alphas: by name; their places count.
      slot: from the name and a place of a choice to what stands there.
    """
    flat = {(*map(str, place.path), ENTRY): slot(name, place) for name, each in alphas.items() for place in each.places}
    return traverse_util.unflatten_dict(flat)


def at_place(values: jax.Array, place: Place) -> jax.Array:
    """Alphas or weights of a choice in the shape of a place: shared ones are repeated for each layer of an `nn.scan`."""
    return jnp.broadcast_to(values, (*place.rows, values.shape[-1]))


def join_variables(weights: Any, alphas: NamedAlphas, model_state: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The variables for `network.apply`, from the parts of `split_variables`."""
    collection = placed(
        alphas, lambda name, place: ChoiceAlphas(at_place(alphas[name].values, place), alphas[name].spec)
    )
    return {PARAMS: weights, COLLECTION: collection, **(model_state or {})}
