"""Sums of candidates, inputs and channels by weights, and what stands for them once they are decided. No framework."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.choice.slots import ChoiceAlphas, ChoiceWeights, Decision, Slot, candidate_weights
from jdarts.errors import InputError, shown


def arguments_for(candidate: Callable[..., Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords that a candidate takes; functions without a signature take none."""
    try:
        parameters = inspect.signature(candidate).parameters.values()
    except ValueError:
        return {}
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return dict(keywords)
    by_name = {each.name for each in parameters if each.kind is not inspect.Parameter.POSITIONAL_ONLY}
    return {name: value for name, value in keywords.items() if name in by_name}


def check_keywords(
    candidates: Mapping[str, Callable[..., Any] | None], keywords: Mapping[str, Any], where: str
) -> None:
    """Checks that some candidate takes each keyword.

    Raises:
      InputError: none takes one of them.
    """
    functions = [each for each in candidates.values() if each is not None]
    for name in keywords:
        if functions and not any(arguments_for(each, {name: None}) for each in functions):
            raise InputError(
                f"{where} is called with {name}=, and none of {', '.join(candidates)} takes it; leave it out"
            )


def mixed_candidates(
    slot: Slot,
    candidates: Mapping[str, Callable[..., Any] | None],
    output: Callable[[str], Any],
    shape: Callable[[str], Any],
    where: str,
) -> Any:
    """The weighted sum of the candidates' outputs, or the output of the chosen one.

    Args:
      slot: what stands in the place of the choice.
      candidates: by name; None for zero.
      output: from the name of a candidate to its output, a pytree of arrays.
      shape: the same in shapes alone, for a candidate that may have no weights here.
      where: the choice in messages.

    Raises:
      InputError: outputs of different shapes, candidates that are all zero, or a decision for none of the candidates.
    """
    check_layer(slot, where)
    names = [name for name, candidate in candidates.items() if candidate is not None]
    if not names:
        raise InputError(f"{where} has no candidate but zeros; give one that is not None, whose shape they take")
    if isinstance(slot, Decision):
        (chosen,) = slot.chosen
        if chosen not in candidates:
            raise InputError(f"the decision of {where} is {shown(chosen)}; give one of {', '.join(candidates)}")
        if chosen in names:
            return output(chosen)
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape(names[0]))
    outputs = {name: output(name) for name in names}
    _check_shapes(outputs, where)
    weights = dict(zip(candidates, candidate_weights(slot)))

    def total(*leaves: jax.Array) -> jax.Array:
        terms = [weights[name].astype(leaf.dtype) * leaf for name, leaf in zip(outputs, leaves)]
        return functools.reduce(jnp.add, terms)

    return jax.tree.map(total, *outputs.values())


def check_layer(slot: Slot, where: str) -> None:
    """Checks that a choice stands for one layer.

    Raises:
      InputError: it has alphas for several.
    """
    if not isinstance(slot, Decision) and slot.values.ndim > 1:
        raise InputError(
            f"{where} has alphas for {slot.values.shape[0]} layers, and is called as one; call it in the scan or vmap that gives "
            "each layer its own"
        )


def _check_shapes(outputs: Mapping[str, Any], where: str) -> None:
    shapes = {name: jax.tree.map(jnp.shape, output) for name, output in outputs.items()}
    if len({str(each) for each in shapes.values()}) > 1:
        listed = ", ".join(f"{name} {each}" for name, each in shapes.items())
        raise InputError(
            f"the candidates of {where} have outputs of different shapes ({listed}); give them the same shape"
        )


def named_inputs(inputs: Mapping[str, jax.Array] | Sequence[jax.Array]) -> dict[str, jax.Array]:
    """Inputs by name; those of a sequence have the names `0`, `1`, ….

    Raises:
      InputError: one array, which is no sequence of them.
    """
    if not isinstance(inputs, Mapping | Sequence):
        raise InputError(
            f"an InputChoice has one array of shape {jnp.shape(inputs)}; give a list of arrays, or a dictionary"
        )
    return dict(inputs) if isinstance(inputs, Mapping) else {str(i): each for i, each in enumerate(inputs)}


def mixed_inputs(slot: Slot, inputs: Mapping[str, jax.Array], *, keep: int, mean: bool, where: str) -> jax.Array:
    """The weighted sum of the inputs, times `keep` unless it is a mean; or the sum or mean of those chosen.

    Args:
      slot: what stands in the place of the choice.
      inputs: arrays of one shape, by name.
      keep: how many a decision keeps.
      mean: whether the result is a mean.
      where: the choice in messages.

    Raises:
      InputError: inputs of different shapes, or a decision for something else.
    """
    check_layer(slot, where)
    _check_shapes(inputs, where)
    factor = 1 if mean else keep
    if isinstance(slot, Decision):
        if unknown := [name for name in slot.chosen if name not in inputs]:
            raise InputError(f"the decision of {where} is {shown(unknown[0])}; give some of {', '.join(inputs)}")
        chosen = [inputs[name] for name in slot.chosen]
        total = functools.reduce(jnp.add, chosen)
        return total / len(chosen) if mean else total
    terms = [
        (factor * weight).astype(each.dtype) * each for weight, each in zip(candidate_weights(slot), inputs.values())
    ]
    return functools.reduce(jnp.add, terms)


def check_makes(layer: Any, module: type, where: str) -> None:
    """Checks that the layer of a width is what makes one.

    Raises:
      InputError: it is a layer.
    """
    if isinstance(layer, module) or not callable(layer):
        name = type(layer).__name__
        raise InputError(
            f"{where} has the layer {name}(…); give what makes it of a width, such as lambda width: {name}(…)"
        )


def check_width(output: jax.Array, width: int, where: str) -> None:
    """Checks that the last axis of a layer's output has its width.

    Raises:
      InputError: it has not.
    """
    if jnp.shape(output)[-1:] != (width,):
        raise InputError(
            f"{where} made a layer of width {width}, and its output has shape {jnp.shape(output)}; give a layer whose "
            "last axis has the width"
        )


def mixed_widths(slot: ChoiceAlphas | ChoiceWeights, output: jax.Array, widths: Sequence[int]) -> jax.Array:
    """The output of the widest layer, each channel times the sum of the weights of the widths that have it.

    Args:
      slot: alphas or weights of the choice.
      output: `[…, max(widths)]`.
      widths: numbers of channels.
    """
    has_channel = np.arange(max(widths))[None, :] < np.array(widths)[:, None]
    weights = candidate_weights(slot)
    factors = (weights @ jnp.asarray(has_channel, weights.dtype)).astype(output.dtype)
    return output * jnp.expand_dims(factors, range(output.ndim - 1))
