"""Products of activations after dropout with a large matrix, which predict words from the outputs of a recurrent cell.

The dropout mask of a stream is the same at all time steps, so the columns of the matrix that it drops need no multiplication in
the forward and in the backward pass: three quarters of the arithmetic at the paper's rate of 0.75. There are three functions,
each linear in both arguments and a transpose of the others, so derivatives of every order and in both modes stay within them:

    product:  y = (x ∘ m) · Eᵀ        pull:  x = (q · E) ∘ m        outer:  E = Σ q ⊗ (x ∘ m)

Masks are constants: no derivative reaches them.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jdarts import native
from jdarts.xla.jax_compat import Primitive, Zero, is_undefined_primal, primitive_jvps, primitive_transposes

product_p = Primitive("dropped_product")
pull_p = Primitive("dropped_pull")
outer_p = Primitive("dropped_outer")


def dropped_product(x: jax.Array, matrix: jax.Array, mask: jax.Array) -> jax.Array:
    """`(x ∘ mask) · matrixᵀ`.

    Args:
      x: `[T, B, H]`.
      matrix: `[V, H]`.
      mask: `[B, H]`.

    Returns:
      `[T, B, V]`.
    """
    return product_p.bind(x, matrix, mask)


def _product(x: jax.Array, matrix: jax.Array, mask: jax.Array) -> jax.Array:
    flat = jnp.matmul(_flat(x * mask[None]), matrix.T)
    return flat.reshape(*x.shape[:2], matrix.shape[0])


def _pull(q: jax.Array, matrix: jax.Array, mask: jax.Array) -> jax.Array:
    flat = jnp.matmul(_flat(q), matrix)
    return flat.reshape(*q.shape[:2], matrix.shape[1]) * mask[None]


def _outer(q: jax.Array, x: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.matmul(_flat(q).T, _flat(x * mask[None]))


def _flat(x: jax.Array) -> jax.Array:
    """`[T · B, …]`."""
    return x.reshape(x.shape[0] * x.shape[1], x.shape[2])


def _define(primitive: Primitive, function: Any, of_first: Any, of_second: Any) -> None:
    """`of_first` and `of_second` give the cotangents of the arguments, from that of the result, the other one and the mask."""
    native.define_lowering(primitive, function, (), native_name=primitive.name)
    primitive.def_abstract_eval(lambda *operands: operands[0].update(shape=jax.eval_shape(function, *operands).shape))

    def jvp(primals: Any, tangents: Any) -> Any:
        first, second, mask = primals
        terms = [
            primitive.bind(*pair, mask)
            for pair, tangent in (((tangents[0], second), tangents[0]), ((first, tangents[1]), tangents[1]))
            if not isinstance(tangent, Zero)
        ]
        out = primitive.bind(*primals)
        return out, sum(terms[1:], terms[0]) if terms else Zero(jax.typeof(out))

    def transpose(cotangent: Any, first: Any, second: Any, mask: Any) -> Any:
        if is_undefined_primal(first):
            return of_first(cotangent, second, mask), None, None
        return None, of_second(cotangent, first, mask), None

    primitive_jvps[primitive] = jvp
    primitive_transposes[primitive] = transpose
    native.batch_in_turn(primitive, function)


_define(
    product_p,
    _product,
    lambda q, matrix, mask: pull_p.bind(q, matrix, mask),
    lambda q, x, mask: outer_p.bind(q, x, mask),
)
_define(
    pull_p,
    _pull,
    lambda x, matrix, mask: product_p.bind(x, matrix, mask),
    lambda x, q, mask: outer_p.bind(q, x, mask),
)
_define(
    outer_p,
    _outer,
    lambda matrix, x, mask: product_p.bind(x, matrix, mask),
    lambda matrix, q, mask: pull_p.bind(q, matrix, mask),
)
