"""The mixture of highway updates in a node of a recurrent search cell, and its derivatives, natively on CPUs.

XLA computes a node's functions again in each of its consumers, and the derivatives of one node within those of the next; one
kernel for each of the value, its derivative and the derivative of that reads and writes every array once.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jdarts import native
from jdarts.errors import InputError
from jdarts.xla.jax_compat import Primitive

#: The activations of a mixture, in the order of the kernel.
ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")

mixed_highway_p = Primitive("mixed_highway")
backward_p = Primitive("mixed_highway_backward")
second_p = Primitive("mixed_highway_second")


@jax.custom_vjp
def mixed_highway(weights: jax.Array, states: jax.Array, gates: jax.Array, candidates: jax.Array) -> jax.Array:
    """The sum of the highway updates of all predecessors by all activations, each weighted (paper equation 2).

    Equal to `Σ_p Σ_f weights[p, f] · (s_p + σ(c_p)·(f(h̃_p) − s_p))`; only the arguments are kept for the derivatives, which
    may be taken twice and more in reverse mode.

    Args:
      weights: mixture weights `[P, F]`, a column for each of `ACTIVATIONS`.
      states: the predecessors `s`, `[P, B, H]`.
      gates: `c`, `[P, B, H]`.
      candidates: `h̃`, `[P, B, H]`.

    Returns:
      `[B, H]`.

    Raises:
      InputError: arrays of other shapes, or of different types.
    """
    return mixed_highway_p.bind(weights, states, gates, candidates)[0]


@jax.custom_vjp
def mixed_highway_backward(weights: Any, states: Any, gates: Any, candidates: Any, cotangent: Any) -> Any:
    """The cotangents of the arguments of `mixed_highway`, from that of its result `[B, H]`."""
    return tuple(backward_p.bind(weights, states, gates, candidates, cotangent))


@jax.custom_vjp
def _second(*arguments: Any) -> Any:
    """The cotangents of the arguments of `mixed_highway_backward`, which come first, from those of its results."""
    return tuple(second_p.bind(*arguments))


def mixed_highway_in_jnp(weights: jax.Array, states: jax.Array, gates: jax.Array, candidates: jax.Array) -> jax.Array:
    """`mixed_highway` in operations of JAX, with derivatives in both modes."""
    mixed, weighted = _mixed(weights, _activations(candidates)), _total(weights) * states
    return jnp.sum(weighted + jax.nn.sigmoid(gates) * (mixed - weighted), axis=0)


def _backward_in_jnp(weights: Any, states: Any, gates: Any, candidates: Any, cotangent: Any) -> Any:
    gate, functions = jax.nn.sigmoid(gates), _activations(candidates)
    tanh, _, logistic, _ = functions
    one = jnp.ones_like(gate)
    slopes = [one - tanh * tanh, (candidates > 0).astype(gate.dtype), logistic * (one - logistic), one]
    through, around = cotangent[None] * gate, cotangent[None] * (one - gate)
    shared = jnp.sum(around * states, axis=(1, 2))
    of_weights = jnp.stack([shared + jnp.sum(through * function, axis=(1, 2)) for function in functions], axis=-1)
    of_gates = through * (one - gate) * (_mixed(weights, functions) - _total(weights) * states)
    return [of_weights, _total(weights) * around, of_gates, through * _mixed(weights, slopes)]


def _second_in_jnp(*arguments: Any) -> Any:
    return list(jax.vjp(_backward_in_jnp, *arguments[:5])[1](list(arguments[5:])))


def _activations(x: jax.Array) -> list[jax.Array]:
    return [jnp.tanh(x), jax.nn.relu(x), jax.nn.sigmoid(x), x]


def _mixed(weights: jax.Array, functions: list[jax.Array]) -> jax.Array:
    terms = [weights[:, column, None, None] * function for column, function in enumerate(functions)]
    return sum(terms[1:], terms[0])


def _total(weights: jax.Array) -> jax.Array:
    return jnp.sum(weights, axis=-1)[:, None, None]


mixed_highway.defvjp(
    lambda *arguments: (mixed_highway(*arguments), arguments),
    lambda arguments, cotangent: mixed_highway_backward(*arguments, cotangent),
)
mixed_highway_backward.defvjp(
    lambda *arguments: (mixed_highway_backward(*arguments), arguments),
    lambda arguments, cotangents: _second(*arguments, *cotangents),
)
_second.defvjp(
    lambda *arguments: (_second(*arguments), arguments),
    lambda arguments, cotangents: jax.vjp(_second_in_jnp, *arguments)[1](list(cotangents)),
)


def _check(weights: Any, states: Any, gates: Any, candidates: Any) -> None:
    expected = (states.shape[0], len(ACTIVATIONS))
    same = states.ndim == 3 and states.shape == gates.shape == candidates.shape and weights.shape == expected
    if not same or len({array.dtype for array in (weights, states, gates, candidates)}) > 1:
        given = ", ".join(f"{array.dtype} {array.shape}" for array in (weights, states, gates, candidates))
        raise InputError(
            f"mixed_highway: the arrays are {given}; give weights [P, {len(ACTIVATIONS)}] and three [P, B, H]"
        )


@mixed_highway_p.def_abstract_eval
def _mixed_highway_shape(weights: Any, states: Any, gates: Any, candidates: Any) -> Any:
    _check(weights, states, gates, candidates)
    return [states.update(shape=states.shape[1:])]


@backward_p.def_abstract_eval
def _backward_shape(weights: Any, states: Any, gates: Any, candidates: Any, cotangent: Any) -> Any:
    del cotangent
    return [weights, states, gates, candidates]


@second_p.def_abstract_eval
def _second_shape(*arguments: Any) -> Any:
    return list(arguments[:5])


def _define(primitive: Primitive, function: Any) -> None:
    primitive.multiple_results = True
    native.define_lowering(primitive, function, (), native_name=primitive.name)
    native.batch_in_turn(primitive, function)


_define(mixed_highway_p, lambda *arguments: [mixed_highway_in_jnp(*arguments)])
_define(backward_p, _backward_in_jnp)
_define(second_p, _second_in_jnp)
