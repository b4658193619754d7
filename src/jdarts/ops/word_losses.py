"""Minus the logarithm of the probability of each target word, with its derivative in place of the logits, natively on CPUs."""

from typing import Any

import jax
import jax.numpy as jnp

from jdarts import native
from jdarts.xla.batching import define_batching
from jdarts.xla.jax_compat import Primitive, Zero, instantiate_zeros, primitive_jvps, primitive_transposes
from jdarts.xla.tangents import define_jvp_by, zero_tangent

losses_p = Primitive("word_losses")
tangent_p = Primitive("word_losses_tangent")
pull_p = Primitive("word_losses_pull")


def word_losses(logits: jax.Array, bias: jax.Array, targets: jax.Array) -> jax.Array:
    """Minus the logarithm of the probability of each target, in nats.

    Derivatives may be taken in both modes and any number of times.

    Args:
      logits: without the bias, `[T, B, V]`.
      bias: `[V]`.
      targets: integers `[T, B]`.

    Returns:
      `[T, B]`.
    """
    losses, _ = losses_p.bind(logits, bias, targets.astype(jnp.int32))
    return losses


# Derivatives.


def _losses_jvp(primals: Any, tangents: Any) -> Any:
    of_logits, of_bias, _ = tangents
    losses, probabilities = losses_p.bind(*primals)
    if isinstance(of_logits, Zero) and isinstance(of_bias, Zero):
        return [losses, probabilities], [zero_tangent(losses), zero_tangent(probabilities)]
    in_tangents = instantiate_zeros(of_logits), instantiate_zeros(of_bias)
    return [losses, probabilities], tangent_p.bind(*in_tangents, probabilities, primals[2])


def _tangent_transpose(cotangents: Any, logits: Any, bias: Any, probabilities: Any, targets: Any) -> Any:
    del logits, bias
    of_losses, of_probabilities = cotangents
    found = []
    if not isinstance(of_losses, Zero):
        found.append(pull_p.bind(probabilities, of_losses, targets))
    if not isinstance(of_probabilities, Zero):
        mean = jnp.sum(probabilities * of_probabilities, axis=-1, keepdims=True)
        of_logits = probabilities * (of_probabilities - mean)
        found.append((of_logits, jnp.sum(of_logits, axis=(0, 1))))
    of_logits, of_bias = (sum(terms[1:], terms[0]) for terms in zip(*found))
    return of_logits, of_bias, None, None


def _pull_jvp(primals: Any, tangents: Any) -> Any:
    probabilities, cotangents, targets = primals
    of_probabilities, of_cotangents, _ = tangents
    results, terms = pull_p.bind(*primals), []
    if not isinstance(of_probabilities, Zero):
        of_logits = cotangents[..., None] * of_probabilities
        terms.append((of_logits, jnp.sum(of_logits, axis=(0, 1))))
    if not isinstance(of_cotangents, Zero):
        terms.append(pull_p.bind(probabilities, of_cotangents, targets))
    if not terms:
        return results, list(map(zero_tangent, results))
    return results, [sum(parts[1:], parts[0]) for parts in zip(*terms)]


def _pull_transpose(given: Any, probabilities: Any, cotangents: Any, targets: Any) -> Any:
    del cotangents
    of_logits, of_bias = map(instantiate_zeros, given)
    gradients = _minus_target(probabilities, targets)
    return None, jnp.sum((of_logits + of_bias[None, None]) * gradients, axis=-1), None


def _is_target(probabilities: jax.Array, targets: jax.Array) -> jax.Array:
    # A comparison that is fused into what follows: gathers and scatters become loops on a CPU.
    return jnp.arange(probabilities.shape[-1], dtype=targets.dtype)[None, None] == targets[..., None]


def _minus_target(probabilities: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.where(_is_target(probabilities, targets), probabilities - 1, probabilities)


def _losses_in_jnp(logits: jax.Array, bias: jax.Array, targets: jax.Array) -> list[jax.Array]:
    logits = logits + bias[None, None]
    chosen = jnp.sum(jnp.where(_is_target(logits, targets), logits, jnp.zeros_like(logits)), axis=-1)
    total = jax.nn.logsumexp(logits, axis=-1)
    return [total - chosen, jnp.exp(logits - total[..., None])]


def _tangent_in_jnp(
    logits: jax.Array, bias: jax.Array, probabilities: jax.Array, targets: jax.Array
) -> list[jax.Array]:
    tangents = logits + bias[None, None]
    mean = jnp.sum(probabilities * tangents, axis=-1)
    chosen = jnp.sum(jnp.where(_is_target(tangents, targets), tangents, jnp.zeros_like(tangents)), axis=-1)
    return [mean - chosen, probabilities * (tangents - mean[..., None])]


def _pull_in_jnp(probabilities: jax.Array, cotangents: jax.Array, targets: jax.Array) -> list[jax.Array]:
    of_logits = cotangents[..., None] * _minus_target(probabilities, targets)
    return [of_logits, jnp.sum(of_logits, axis=(0, 1))]


@losses_p.def_abstract_eval
def _losses_shape(logits: Any, bias: Any, targets: Any) -> Any:
    del bias
    return [logits.update(shape=targets.shape), logits]


@tangent_p.def_abstract_eval
def _tangent_shape(logits: Any, bias: Any, probabilities: Any, targets: Any) -> Any:
    del probabilities
    return _losses_shape(logits, bias, targets)


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
_define(tangent_p, _tangent_in_jnp)
_define(pull_p, _pull_in_jnp)

primitive_jvps[losses_p] = _losses_jvp
define_jvp_by(tangent_p, _tangent_in_jnp)
primitive_transposes[tangent_p] = _tangent_transpose
primitive_jvps[pull_p] = _pull_jvp
primitive_transposes[pull_p] = _pull_transpose
