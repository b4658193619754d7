"""How sharply the validation loss curves in the alphas: the largest eigenvalue of ∇²α L_val (Zela et al. 2020).

The weights are fixed, so that there is no implicit term. Products with the Hessian are exact. Cells that are derived where this
eigenvalue is large lose more of their accuracy.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jdarts.bilevel.problem import PyTree
from jdarts.errors import InputError
from jdarts.xla.jaxprs import has_forward_mode
from jdarts.xla.outlined import outlined

#: What RobustDARTS adds to the diagonal: the L2 penalty of its alphas.
ROBUST_DARTS_DECAY = 1e-3


class Curvature(NamedTuple):
    """The largest eigenvalue of a Hessian.

    Attributes:
      eigenvalue: the largest one, signed; a scalar.
      residual: `‖Hx − λx‖` of the unit vector x that belongs to it: an eigenvalue lies as near as that; a scalar. Where the
        vectors of the iteration span an invariant space, as all alphas are one, it is that of rounding.
    """

    eigenvalue: jax.Array
    residual: jax.Array


def largest_eigenvalue(
    loss: Callable[[PyTree], jax.Array],
    alphas: PyTree,
    key: jax.Array,
    *,
    iterations: int = 32,
    weight_decay: float = 0.0,
    average: Callable[[PyTree], PyTree] = lambda tree: tree,
) -> Curvature:
    """The largest eigenvalue of the loss's Hessian, by Lanczos's method with full reorthogonalisation.

    With as many iterations as there are alphas it is exact to rounding. With fewer it is a lower bound, which converges soon if
    the eigenvalue stands out. Each iteration is one product with the Hessian, about two passes through the network. Pure.

    Args:
      loss: the validation loss as a function of the alphas, a scalar; weights, batch and key are bound.
      alphas: pytree of floating-point arrays.
      key: draws the vector that the iteration begins with.
      iterations: products with the Hessian at most; no more are made than there are alphas.
      weight_decay: added to the diagonal; RobustDARTS adds `ROBUST_DARTS_DECAY`.
      average: the mean over devices of a pytree, as in `Problem`.

    Raises:
      InputError: fewer than one iteration.
    """
    if iterations < 1:
        raise InputError(f"{iterations} iterations for the largest eigenvalue; give 1 or more")
    product, size, dtype = _hessian_product(loss, alphas, average)
    count = min(iterations, size)
    draws = jax.random.normal(key, (count + 1, size), dtype)

    def iterate(carry: tuple[jax.Array, ...], place: jax.Array) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        basis, direction, scale = carry
        basis = basis.at[place].set(direction)
        image = product(direction)
        scale = jnp.maximum(scale, jnp.linalg.norm(image))
        rest = _orthogonal(image, basis)
        length = jnp.linalg.norm(rest)
        # Where the vectors so far span an invariant space, the iteration begins again with a vector outside it.
        ends = length <= 10 * jnp.finfo(dtype).eps * scale
        rest = jnp.where(ends, _orthogonal(draws[place + 1], basis), rest)
        norm = jnp.linalg.norm(rest)
        following = rest / jnp.where(norm > 0, norm, jnp.ones_like(norm))
        return (basis, following, scale), (jnp.vdot(direction, image), length, ends)

    start = jnp.zeros((count, size), dtype), draws[0] / jnp.linalg.norm(draws[0]), jnp.zeros((), dtype)
    # Written out one after the other, the products take XLA several times as long to compile.
    _, (diagonal, lengths, ends) = jax.lax.scan(iterate, start, jnp.arange(count))
    between = jnp.where(ends, jnp.zeros_like(lengths), lengths)
    tridiagonal = jnp.diag(diagonal) + jnp.diag(between[:-1], 1) + jnp.diag(between[:-1], -1)
    values, vectors = jnp.linalg.eigh(tridiagonal)
    # What the matrix leaves out: the last length, and those within rounding where an invariant space ends.
    left_out = lengths * vectors[:, -1] * ends.at[-1].set(True)
    return Curvature(values[-1] + jnp.asarray(weight_decay, dtype), jnp.linalg.norm(left_out))


def alpha_hessian(
    loss: Callable[[PyTree], jax.Array],
    alphas: PyTree,
    *,
    weight_decay: float = 0.0,
    average: Callable[[PyTree], PyTree] = lambda tree: tree,
) -> jax.Array:
    """The whole Hessian of the loss: one product for each of the `n` alphas, one after the other.

    Args:
      loss: as for `largest_eigenvalue`.
      alphas: as for `largest_eigenvalue`.
      weight_decay: as for `largest_eigenvalue`.
      average: as for `largest_eigenvalue`.

    Returns:
      `[n, n]`, in the order of the pytree's leaves, each row by row.
    """
    product, size, dtype = _hessian_product(loss, alphas, average)
    return jax.lax.map(product, jnp.eye(size, dtype=dtype)) + jnp.asarray(weight_decay, dtype) * jnp.eye(
        size, dtype=dtype
    )


def _hessian_product(
    loss: Callable[[PyTree], jax.Array], alphas: PyTree, average: Callable[[PyTree], PyTree]
) -> tuple[Callable[[jax.Array], jax.Array], int, jnp.dtype]:
    """`x [n] ↦ ∇²loss · x [n]`, n, and the type of the vectors."""
    vector, tree_of = ravel_pytree(alphas)
    gradient = jax.grad(loss)
    if has_forward_mode(loss, alphas):
        _, push = jax.linearize(gradient, alphas)
    else:
        _, pull = jax.vjp(gradient, alphas)
        push = lambda direction: pull(direction)[0]  # noqa: E731
    of_tree = outlined(push, alphas)
    return lambda direction: ravel_pytree(average(of_tree(tree_of(direction))))[0], vector.size, vector.dtype


def _orthogonal(vector: jax.Array, basis: jax.Array) -> jax.Array:
    """The part of a vector that is orthogonal to the rows of the basis; the second time removes what rounding leaves."""
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    return vector
