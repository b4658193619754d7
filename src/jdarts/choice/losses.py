"""Losses of networks with choices, for `jdarts.bilevel_step`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from jdarts.bilevel import LossFn
from jdarts.choice.slots import COLLECTION, ChoiceWeights
from jdarts.choice.tables import NamedAlphas, mixture_for, weights_of_pass
from jdarts.choice.variables import PARAMS, at_place, placed
from jdarts.errors import InputError, shown
from jdarts.methods.mixtures import PAPER
from jdarts.relaxation import NO_CONTROLS, Controls, Mixture

#: `(outputs, targets) -> loss`, a scalar or one for each example, or `(loss, metrics)`.
OutputLoss = Callable[[Any, Any], Any]


class Network(Protocol):
    """What a loss needs of a Linen network."""

    def apply(self, variables: Any, *args: Any, **keywords: Any) -> Any:
        """Outputs, with the changed collections where some are mutable."""


def cross_entropy(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean cross entropy, with the metric `accuracy`.

    Args:
      logits: `[B, K]`.
      labels: integers `[B]`.

    Raises:
      InputError: shapes or types that do not fit.
    """
    if jnp.shape(logits)[:-1] != jnp.shape(labels) or not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise InputError(
            f"cross_entropy has outputs of shape {jnp.shape(logits)} and targets {jnp.result_type(labels)} "
            f"{jnp.shape(labels)}; give logits [B, K] and integers [B], or another loss"
        )
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    right = jnp.argmax(logits, axis=-1) == labels
    return jnp.mean(losses), {"accuracy": jnp.mean(right.astype(logits.dtype))}


def squared_error(outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean squared error.

    Args:
      outputs: `[B, …]`.
      targets: of the same shape.

    Raises:
      InputError: shapes that differ.
    """
    if jnp.shape(outputs) != jnp.shape(targets):
        raise InputError(
            f"squared_error has outputs of shape {jnp.shape(outputs)} and targets of {jnp.shape(targets)}; give the same shape"
        )
    return jnp.mean(jnp.square(outputs - targets)), {}


def binary_cross_entropy(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean cross entropy of yes and no, with the metric `accuracy`.

    Args:
      logits: `[B, …]`, positive for 1.
      labels: 0 or 1, of the same shape.

    Raises:
      InputError: shapes that differ.
    """
    if jnp.shape(logits) != jnp.shape(labels):
        raise InputError(
            f"binary_cross_entropy has outputs of shape {jnp.shape(logits)} and targets of {jnp.shape(labels)}; give the same "
            "shape"
        )
    right = (logits > 0) == (labels > 0.5)
    losses = optax.sigmoid_binary_cross_entropy(logits, jnp.asarray(labels, logits.dtype))
    return jnp.mean(losses), {"accuracy": jnp.mean(right.astype(logits.dtype))}


LOSSES: Mapping[str, OutputLoss] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "squared_error": squared_error,
}


def output_loss(loss: str | OutputLoss) -> Callable[[Any, Any], tuple[jax.Array, dict[str, Any]]]:
    """A loss of outputs and targets as a function that returns a scalar and metrics.

    Raises:
      InputError: there is none of this name.
    """
    if loss not in LOSSES if isinstance(loss, str) else not callable(loss):
        raise InputError(f"the loss is {shown(loss)}; give {', '.join(LOSSES)}, or a function of outputs and targets")
    function = LOSSES[loss] if isinstance(loss, str) else loss

    def both(outputs: Any, targets: Any) -> tuple[jax.Array, dict[str, Any]]:
        result = function(outputs, targets)
        value, metrics = result if isinstance(result, tuple) else (result, {})
        return jnp.mean(value), dict(metrics)

    return both


def network_loss(
    network: Network,
    loss: str | OutputLoss = "cross_entropy",
    *,
    mixture: str | Mixture = PAPER,
    controls: Controls = NO_CONTROLS,
    rngs: Sequence[str] = ("dropout",),
    **call: Any,
) -> LossFn:
    """The loss of a Linen network with choices, for `jdarts.bilevel_step`.

    Its batches are `(inputs, targets)`, where a tuple of inputs gives the network several arguments; weights, alphas and
    model state are those of `split_variables`. With `alphas={}` it is the loss of a network without choices, such as a decided
    one.

    Args:
      network: the network.
      loss: `cross_entropy`, `binary_cross_entropy`, `squared_error`, or `(outputs, targets) -> loss`, a scalar or one for each
        example, or `(loss, metrics)`.
      mixture: how alphas become weights of the candidates, by its name in `jdarts.methods.mixtures.MIXTURES`. One that draws does
        so once in each pass, on each device by itself.
      controls: numbers that the mixture reads, such as `{"temperature": 1.0}`.
      rngs: names of the network's streams of random numbers.
      **call: further arguments of the network, such as `train=True`.

    Raises:
      InputError: there is no such loss or mixture.
    """
    plug_in, of_outputs = mixture_for(mixture), output_loss(loss)

    def loss_fn(weights: Any, alphas: Any, model_state: Any, batch: Any, key: jax.Array) -> Any:
        candidate_weights = weights_of_pass(alphas, plug_in, key, controls)
        inputs, targets = batch_parts(batch)
        outputs, state = outputs_of(
            network,
            weights,
            alphas,
            candidate_weights,
            model_state,
            inputs,
            rngs={name: jax.random.fold_in(key, number) for number, name in enumerate(rngs, 1)},
            **call,
        )
        if plug_in.skips_unused:
            state = without_unused(state, model_state, alphas, candidate_weights)
        value, metrics = of_outputs(outputs, targets)
        return value, (state, metrics)

    return loss_fn


def batch_parts(batch: Any) -> tuple[tuple[Any, ...], Any]:
    """The inputs and the targets of a batch.

    Raises:
      InputError: it is not a pair.
    """
    if not isinstance(batch, tuple) or len(batch) != 2:
        raise InputError(f"a batch is {shown(type(batch).__name__)}; give a pair (inputs, targets)")
    inputs, targets = batch
    return (inputs if isinstance(inputs, tuple) else (inputs,)), targets


def outputs_of(
    network: Network,
    weights: Any,
    alphas: NamedAlphas,
    candidate_weights: Mapping[str, jax.Array],
    model_state: Any,
    inputs: tuple[Any, ...],
    **call: Any,
) -> tuple[Any, Any]:
    """The outputs of a network at given weights of its candidates, and its new model state.

    Args:
      network: the network.
      weights: its parameters.
      alphas: the choices; their values do not count.
      candidate_weights: in the shapes of the alphas.
      model_state: its other collections, by name; `()` for none.
      inputs: its arguments.
      **call: its further arguments, and those of `apply`.
    """
    collection = placed(alphas, lambda name, place: ChoiceWeights(at_place(candidate_weights[name], place)))
    variables = {PARAMS: weights, COLLECTION: collection, **(model_state or {})}
    outputs, changed = network.apply(variables, *inputs, mutable=list(model_state or {}), **call)
    return outputs, {**model_state, **changed} if model_state else model_state


def without_unused(state: Any, before: Any, alphas: NamedAlphas, candidate_weights: Mapping[str, jax.Array]) -> Any:
    """The new model state, with that of candidates of weight 0 as before; arguments as for `outputs_of`."""
    if not state:
        return state
    used: dict[tuple[str, ...], jax.Array] = {
        (*around, candidate): weight > 0
        for name, each in alphas.items()
        for place, around in zip(each.places, each.candidate_paths)
        if not place.rows and candidate_weights[name].ndim == 1
        for candidate, weight in zip(each.spec.candidates, candidate_weights[name])
    }

    def kept(path: Any, new: jax.Array, old: jax.Array) -> jax.Array:
        names = tuple(str(entry.key) for entry in path[1:])
        for count in range(len(names), 0, -1):
            if names[:count] in used:
                new = jnp.where(used[names[:count]], new, old)
        return new

    return jax.tree.map_with_path(kept, state, before)
