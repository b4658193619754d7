"""Updates of any optax optimiser."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jdarts.errors import InputError
from jdarts.xla.jaxprs import reads

PyTree = Any


class Signal(NamedTuple):
    """The inputs of an optimiser's update.

    Attributes:
      gradient: of the loss, a pytree like the parameters.
      value: the loss `[]`; None for optimisers that do not read it.
    """

    gradient: PyTree
    value: jax.Array | None


def make_update(
    optimizer: optax.GradientTransformation,
    signal: Signal,
    opt_state: optax.OptState,
    params: PyTree,
    *,
    whose: str,
    **functions: Callable[[PyTree], jax.Array],
) -> tuple[PyTree, optax.OptState]:
    """The update that an optimiser makes, and its new state.

    Optimisers with extra arguments (`optax.GradientTransformationExtraArgs`) get the value of the loss, if there is one, the
    gradient, and the functions.

    Args:
      optimizer: the optimiser.
      signal: gradient and value of the loss.
      opt_state: the optimiser's state.
      params: the parameters to update.
      whose: "weight" or "alpha", for messages.
      **functions: losses as functions of the parameters, by the names of optax's arguments.

    Raises:
      InputError: the optimiser needs other arguments.
    """
    extras = {"grad": signal.gradient, **functions}
    if signal.value is not None:
        extras["value"] = signal.value
    update = optax.with_extra_args_support(optimizer).update
    try:
        return update(signal.gradient, opt_state, params, **_accepted(update, extras))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the {whose} optimiser cannot make an update here from gradient, state, parameters, {', '.join(sorted(extras))}: "
            f"{first_line(error)}"
        ) from error


def reads_value(optimizer: optax.GradientTransformation, opt_state: optax.OptState, params: PyTree) -> bool:
    """Whether the updates of an optimiser depend on the value of the loss, not only on its gradient."""
    if not isinstance(optimizer, optax.GradientTransformationExtraArgs):
        return False
    value = jax.ShapeDtypeStruct((), jnp.result_type(*jax.tree.leaves(params)[:1], float))

    def update(value: jax.Array, gradient: PyTree) -> Any:
        return make_update(optimizer, Signal(gradient, value), opt_state, params, whose="weight")

    return reads(update, value, params)


def _accepted(update: Callable[..., Any], extras: dict[str, Any]) -> dict[str, Any]:
    """The extra arguments that a function has parameters for."""
    parameters = inspect.signature(update).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return extras
    return {parameter.name: extras[parameter.name] for parameter in parameters if parameter.name in extras}


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
