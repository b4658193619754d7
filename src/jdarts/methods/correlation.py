"""How well the cells' gradients by their mixtures agree (Λ-DARTS; Movahedi et al. 2023)."""

import jax
import jax.numpy as jnp


def mean_correlation(gradients: jax.Array) -> jax.Array:
    """Λ, the mean cosine over all pairs of cells.

    Args:
      gradients: `[L, …]`, gradients of the loss by the mixtures of `L` cells of a kind, 2 or more.
    """
    return _correlation(gradients.reshape(gradients.shape[0], -1))


def _correlation(rows: jax.Array) -> jax.Array:
    squares = jnp.sum(jnp.square(rows), axis=-1, keepdims=True)
    # A cell without a gradient has no direction: its cosines are 0, and so is their derivative.
    units = jnp.where(squares > 0, rows * jax.lax.rsqrt(jnp.where(squares > 0, squares, 1)), 0)
    count = rows.shape[0]
    together = jnp.sum(units, axis=0)
    return (jnp.sum(jnp.square(together)) - jnp.sum(jnp.square(units))) / (count * (count - 1))


def mean_sign_correlation(gradients: jax.Array) -> jax.Array:
    """The mean over all pairs of cells of ⟨g, h⟩ / ⟨|g|, |h|⟩, the second form of the authors' code.

    Args:
      gradients: as for `mean_correlation`.
    """
    rows = gradients.reshape(gradients.shape[0], -1)
    products, sizes = rows @ rows.T, jnp.abs(rows) @ jnp.abs(rows).T
    pairs = jnp.where(sizes > 0, products / jnp.where(sizes > 0, sizes, 1), 0)
    count = rows.shape[0]
    return (jnp.sum(pairs) - jnp.trace(pairs)) / (count * (count - 1))


def correlation_direction(gradients: jax.Array, *, signs: bool = False) -> tuple[jax.Array, jax.Array]:
    """The derivative of Λ by the gradients, and Λ.

    Args:
      gradients: as for `mean_correlation`.
      signs: whether Λ is `mean_sign_correlation`.

    Returns:
      `[L, …]` and a scalar.
    """
    value, direction = jax.value_and_grad(mean_sign_correlation if signs else mean_correlation)(gradients)
    return direction, value
