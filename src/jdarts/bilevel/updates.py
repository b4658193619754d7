"""Updates of any optax optimiser, and the derivative of an update."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jdarts.errors import InputError
from jdarts.xla.jaxprs import reads
from jdarts.xla.trees import all_finite, map_entries

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
            f"{_first_line(error)}"
        ) from error


def reads_value(optimizer: optax.GradientTransformation, opt_state: optax.OptState, params: PyTree) -> bool:
    """Whether the updates of an optimiser depend on the value of the loss, not only on its gradient."""
    if not isinstance(optimizer, optax.GradientTransformationExtraArgs):
        return False
    value = jax.ShapeDtypeStruct((), jnp.result_type(jax.tree.leaves(params)[0]))

    def update(value: jax.Array, gradient: PyTree) -> Any:
        return make_update(optimizer, Signal(gradient, value), opt_state, params, whose="weight")

    return reads(update, value, params)


def pulled_back(pull: Callable[..., Any], cotangents: PyTree) -> Any:
    """Cotangents through an update, in which 0 times a slope that is not finite is 0.

    In the reverse mode of JAX 0 · ∞ is NaN. It occurs in the branch of a `where` that an optimiser does not take (the first steps
    of `optax.radam`) and at the square root of 0 (`optax.adam` at a gradient of 0). `pull` holds the slopes. Those that are not
    finite are replaced by 0, and in a second computation by a huge number: if both results agree, these slopes do not matter.

    Args:
      pull: the second result of `jax.vjp`.
      cotangents: of the results of the function.

    Returns:
      The cotangents of the arguments, NaN where a slope that is not finite matters.

    Raises:
      InputError: the function has no reverse mode.
    """
    leaves, structure = jax.tree.flatten(pull)
    ordinary = all_finite([leaf for leaf in leaves if _is_float(leaf)])

    def with_slopes(filling: Callable[[int, float], float]) -> Any:
        filled = [
            jnp.where(jnp.isfinite(leaf), leaf, jnp.full_like(leaf, filling(place, float(jnp.finfo(leaf.dtype).max))))
            if _is_float(leaf)
            else leaf
            for place, leaf in enumerate(leaves)
        ]
        return jax.tree.unflatten(structure, filled)(cotangents)

    def agreed(a: jax.Array, b: jax.Array) -> jax.Array:
        # Two programs of one sum may round it differently.
        same = ordinary | (jnp.abs(a - b) <= 1e-3 * jnp.abs(a))
        return jnp.where(same, a, jnp.full_like(a, jnp.nan))

    try:
        # A different number for each leaf, so that no two cancel.
        first, second = with_slopes(lambda *_: 0.0), with_slopes(lambda place, largest: largest**0.5 / (1 + place))
    except ValueError as error:
        raise InputError(
            f"the weight optimiser's update has no derivative ({_first_line(error)}); use first_order(), or a virtual_optimizer "
            "with the same state"
        ) from error
    leaves, structure = jax.tree.flatten(first)
    floats = [place for place, leaf in enumerate(leaves) if _is_float(leaf)]
    others = jax.tree.leaves(second)
    for place, leaf in zip(floats, map_entries(agreed, *([each[n] for n in floats] for each in (leaves, others)))):
        leaves[place] = leaf
    return jax.tree.unflatten(structure, leaves)


def stays_finite(given: PyTree, pulled: PyTree) -> jax.Array:
    """Whether the cotangents that were pulled back are finite, if the given ones are; bool `[]`."""
    before, after = ([leaf for leaf in jax.tree.leaves(tree) if _is_float(leaf)] for tree in (given, pulled))
    return all_finite(after) | ~all_finite(before)


def no_cotangents(tree: PyTree) -> PyTree:
    """Cotangents of 0 for a pytree of any arrays."""
    return jax.tree.map(
        lambda leaf: jnp.zeros_like(leaf) if _is_float(leaf) else np.zeros(jnp.shape(leaf), jax.dtypes.float0), tree
    )


def _accepted(update: Callable[..., Any], extras: dict[str, Any]) -> dict[str, Any]:
    """The extra arguments that a function has parameters for."""
    parameters = inspect.signature(update).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return extras
    return {parameter.name: extras[parameter.name] for parameter in parameters if parameter.name in extras}


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
