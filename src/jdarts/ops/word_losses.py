"""Minus the logarithm of the probability of each target word, with its derivative in place of the logits, natively on CPUs."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jdarts import native
from jdarts.xla.batching import define_batching
from jdarts.xla.jax_compat import Primitive

losses_p = Primitive("word_losses")
pull_p = Primitive("word_losses_pull")


def word_losses(logits: jax.Array, bias: jax.Array, targets: jax.Array) -> jax.Array:
    """Minus the logarithm of the probability of each target, in nats.

    Derivatives may be taken twice and more in reverse mode.

    Args:
      logits: without the bias, `[T, B, V]`.
      bias: `[V]`.
      targets: integers `[T, B]`.

    Returns:
      `[T, B]`.
    """
    return _losses(logits, bias, targets.astype(jnp.int32))[0]


@jax.custom_vjp
def _losses(logits: jax.Array, bias: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The losses and the probabilities of all words."""
    losses, probabilities = losses_p.bind(logits, bias, targets)
    return losses, probabilities


@jax.custom_vjp
def _pull(probabilities: jax.Array, cotangents: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cotangents of logits and bias from those of the losses."""
    of_logits, of_bias = pull_p.bind(probabilities, cotangents, targets)
    return of_logits, of_bias


def _losses_forward(logits: Any, bias: Any, targets: Any) -> Any:
    losses, probabilities = _losses(logits.value, bias.value, targets.value)
    return (losses, probabilities), (probabilities, targets.value)


def _losses_back(residuals: Any, cotangents: Any) -> Any:
    probabilities, targets = residuals
    of_losses, of_probabilities = cotangents
    found = []
    if not isinstance(of_losses, SymbolicZero):
        found.append(_pull(probabilities, of_losses, targets))
    if not isinstance(of_probabilities, SymbolicZero):
        mean = jnp.sum(probabilities * of_probabilities, axis=-1, keepdims=True)
        of_logits = probabilities * (of_probabilities - mean)
        found.append((of_logits, jnp.sum(of_logits, axis=(0, 1))))
    if not found:
        return None, None, None
    of_logits, of_bias = (sum(terms[1:], terms[0]) for terms in zip(*found))
    return of_logits, of_bias, None


def _pull_back(residuals: Any, cotangents: Any) -> Any:
    probabilities, of_losses, targets = residuals
    of_logits, of_bias = cotangents
    both = of_logits + of_bias[None, None]
    apart = jnp.where(_is_target(probabilities, targets), probabilities - 1, probabilities)
    return both * of_losses[..., None], jnp.sum(both * apart, axis=-1), None


_losses.defvjp(_losses_forward, _losses_back, symbolic_zeros=True)
_pull.defvjp(lambda *arguments: (_pull(*arguments), arguments), _pull_back)


def _is_target(probabilities: jax.Array, targets: jax.Array) -> jax.Array:
    # A comparison that is fused into what follows: gathers and scatters become loops on a CPU.
    return jnp.arange(probabilities.shape[-1], dtype=targets.dtype)[None, None] == targets[..., None]


def _losses_in_jnp(logits: jax.Array, bias: jax.Array, targets: jax.Array) -> list[jax.Array]:
    logits = logits + bias[None, None]
    chosen = jnp.sum(jnp.where(_is_target(logits, targets), logits, jnp.zeros_like(logits)), axis=-1)
    total = jax.nn.logsumexp(logits, axis=-1)
    return [total - chosen, jnp.exp(logits - total[..., None])]


def _pull_in_jnp(probabilities: jax.Array, cotangents: jax.Array, targets: jax.Array) -> list[jax.Array]:
    apart = jnp.where(_is_target(probabilities, targets), probabilities - 1, probabilities)
    of_logits = cotangents[..., None] * apart
    return [of_logits, jnp.sum(of_logits, axis=(0, 1))]


@losses_p.def_abstract_eval
def _losses_shape(logits: Any, bias: Any, targets: Any) -> Any:
    del bias
    return [logits.update(shape=targets.shape), logits]


@pull_p.def_abstract_eval
def _pull_shape(probabilities: Any, cotangents: Any, targets: Any) -> Any:
    del cotangents, targets
    return [probabilities, probabilities.update(shape=probabilities.shape[-1:])]


def _define(primitive: Primitive, function: Any) -> None:
    primitive.multiple_results = True
    native.define_lowering(primitive, function, (), native_name=primitive.name)

    def batched(operands: Any, axes: Any) -> Any:
        results = jax.vmap(function, in_axes=tuple(axes))(*operands)
        return results, [0] * len(results)

    define_batching(primitive, batched)


_define(losses_p, _losses_in_jnp)
_define(pull_p, _pull_in_jnp)
