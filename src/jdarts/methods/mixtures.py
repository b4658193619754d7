"""How alphas become weights of the operations: one row for each mixture.

All act on tables of alphas `[E, O]`, one for each kind of cell, and on the candidates of each edge's list alone.
`with_edge_weights` adds factors of whole edges to any of them.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.errors import InputError, shown
from jdarts.methods.pruning import Masks, masked_mixture
from jdarts.methods.random_cells import RANDOM_CELLS, random_cells
from jdarts.relaxation import (
    SOFTMAX,
    Alphas,
    Controls,
    Mixture,
    MixtureWeights,
    Space,
    init_alphas,
    map_tables,
    operations_of,
    same_node,
    softmax_strengths,
    softmax_weights,
)

#: Control of the Gumbel mixtures.
TEMPERATURE = "temperature"

#: From the alphas of one kind of cell `[E, O]`, the mask of its candidates `[E, O]`, a key and controls to weights `[E, O]`.
Draw = Callable[[jax.Array, np.ndarray, jax.Array, Controls], jax.Array]


def _sampled(draw: Draw, mean: Callable[[Alphas, Space], dict[str, jax.Array]], **fields: Any) -> Mixture:
    """A mixture that is drawn once for each kind of cell and pass, and that all its cells share."""

    def weights(alphas: Alphas, space: Space, key: jax.Array | None, controls: Controls) -> MixtureWeights:
        if key is None:
            return MixtureWeights(mean(alphas, space))
        keys = iter(jax.random.split(key, len(operations_of(space))))
        return MixtureWeights(map_tables(lambda table, mask: draw(table, mask, next(keys), controls), alphas, space))

    defaults = {"init": init_alphas, "strengths": softmax_strengths, "random": True}
    return Mixture(weights=weights, **{**defaults, **fields})


def _zeros(key: jax.Array, space: Space, dtype: Any) -> Alphas:
    return jax.tree.map(jnp.zeros_like, init_alphas(key, space, dtype))


def _around_one(key: jax.Array, space: Space, dtype: Any) -> Alphas:
    return jax.tree.map(lambda leaf: 1 + 10 * leaf, init_alphas(key, space, dtype))


def sigmoid_weights(alphas: Alphas, space: Space) -> dict[str, jax.Array]:
    """The sigmoid of each alpha by itself, so that operations do not compete (FairDARTS; Chu et al. 2020, equation 4).

    Args:
      alphas: tables, as `init_alphas` makes them.
      space: the search space.

    Returns:
      `{kind: [E, O]}`, 0 in columns that an edge's list does not have.

    Raises:
      InputError: alphas of another shape.
    """
    return map_tables(lambda table, mask: jnp.where(mask, jax.nn.sigmoid(table), 0), alphas, space)


def _sigmoid_strengths(alphas: Alphas, space: Space) -> dict[str, np.ndarray]:
    """The logarithms of the sigmoids, in float64."""

    def logarithms(table: Any, mask: np.ndarray) -> np.ndarray:
        return np.where(mask, -np.logaddexp(0, -np.asarray(table, np.float64)), -np.inf)

    return map_tables(logarithms, alphas, space)


def concentrations(alphas: Alphas, space: Space) -> dict[str, jax.Array]:
    """The concentrations of DrNAS's Dirichlet distributions: `elu(α) + 1`, above 0 (Chen et al. 2021, section 3.1).

    Below 0 they are `exp(α)`, which is the same without a difference of near numbers. They are at least the square of the type's
    rounding, so that draws and divergences have finite derivatives.

    Args:
      alphas: tables, as `init_alphas` makes them.
      space: the search space.

    Returns:
      `{kind: [E, O]}`.
    """
    return map_tables(lambda table, _: _concentration(table), alphas, space)


def _concentration(alphas: Any) -> jax.Array:
    alphas = jnp.asarray(alphas)
    below = jnp.exp(jnp.where(alphas > 0, 0, alphas))
    return jnp.where(alphas > 0, alphas + 1, jnp.maximum(below, jnp.finfo(below.dtype).eps ** 2))


def _dirichlet_mean(alphas: Alphas, space: Space) -> dict[str, jax.Array]:

    def mean(table: jax.Array, mask: np.ndarray) -> jax.Array:
        masked = jnp.where(mask, table, 0)
        return masked / jnp.sum(masked, axis=-1, keepdims=True)

    return map_tables(mean, concentrations(alphas, space), space)


def _dirichlet(alphas: jax.Array, mask: np.ndarray, key: jax.Array, controls: Controls) -> jax.Array:
    """Gamma variates divided by their sum: their derivative by the concentrations is unbiased."""
    del controls
    logs = jax.random.loggamma(key, _concentration(alphas), dtype=alphas.dtype)
    return jax.nn.softmax(logs, axis=-1, where=mask)


def gumbel_softmax(alphas: jax.Array, mask: np.ndarray, noise: jax.Array, temperature: Any) -> jax.Array:
    """The softmax of `(α + noise) / temperature` over the candidates of each edge (SNAS; Xie et al. 2019, equation 4).

    Args:
      alphas: `[E, O]`.
      mask: candidates, bool `[E, O]`.
      noise: Gumbel variates `[E, O]`.
      temperature: scalar above 0.

    Returns:
      `[E, O]`.
    """
    return jax.nn.softmax((alphas + noise) / jnp.asarray(temperature, alphas.dtype), axis=-1, where=mask)


def _noise(key: jax.Array, alphas: jax.Array) -> jax.Array:
    return jax.random.gumbel(key, alphas.shape, alphas.dtype)


def _one_hot(weights: jax.Array) -> jax.Array:
    """1 in the largest entry of each row, the first among equals."""
    return jax.nn.one_hot(jnp.argmax(weights, axis=-1), weights.shape[-1], dtype=weights.dtype)


def straight_through(weights: jax.Array) -> jax.Array:
    """The one-hot rows of the largest entries, with the derivative of the entries (Jang, Gu and Poole 2017).

    Args:
      weights: `[E, O]`.
    """
    return weights + jax.lax.stop_gradient(_one_hot(weights) - weights)


def chosen_alone(weights: jax.Array) -> jax.Array:
    """As `straight_through`, but only the chosen entries have a derivative (GDAS; Dong and Yang 2019, equation 7).

    It is what a network gives that evaluates the chosen operation of each edge and no other.

    Args:
      weights: `[E, O]`.
    """
    one_hot = jax.lax.stop_gradient(_one_hot(weights))
    return one_hot * (1 + weights - jax.lax.stop_gradient(weights))


def reinmax(alphas: jax.Array, mask: np.ndarray, one_hot: jax.Array, temperature: Any) -> jax.Array:
    """One-hot rows with ReinMax's derivative of second order (Liu et al. 2023, algorithm 2).

    Args:
      alphas: `[E, O]`.
      mask: candidates, bool `[E, O]`.
      one_hot: rows drawn from the softmax of the alphas, `[E, O]`.
      temperature: of the softmax in the derivative, scalar from 1.
    """
    stop = jax.lax.stop_gradient
    plain = jax.nn.softmax(alphas, axis=-1, where=mask)
    tempered = jax.nn.softmax(alphas / jnp.asarray(temperature, alphas.dtype), axis=-1, where=mask)
    middle = (one_hot + tempered) / 2
    logs = jnp.log(jnp.where(middle > 0, middle, 1))
    shifted = jax.nn.softmax(stop(logs - alphas) + alphas, axis=-1, where=mask)
    surrogate = 2 * shifted - plain / 2
    return one_hot + surrogate - stop(surrogate)


def _gumbel(alphas: jax.Array, mask: np.ndarray, key: jax.Array, controls: Controls) -> jax.Array:
    return gumbel_softmax(alphas, mask, _noise(key, alphas), controls[TEMPERATURE])


def _gumbel_hard(alphas: jax.Array, mask: np.ndarray, key: jax.Array, controls: Controls) -> jax.Array:
    return straight_through(_gumbel(alphas, mask, key, controls))


def _gumbel_chosen(alphas: jax.Array, mask: np.ndarray, key: jax.Array, controls: Controls) -> jax.Array:
    return chosen_alone(_gumbel(alphas, mask, key, controls))


def _reinmax(alphas: jax.Array, mask: np.ndarray, key: jax.Array, controls: Controls) -> jax.Array:
    drawn = _one_hot(gumbel_softmax(jax.lax.stop_gradient(alphas), mask, _noise(key, alphas), 1.0))
    return reinmax(alphas, mask, drawn, controls[TEMPERATURE])


#: The paper's.
PAPER = "softmax"

#: A new mixture is a row here. `jdarts.relaxation.Mixture` lists its parts, and the functions of `SOFTMAX` there are an example:
#: `operations_of` and `candidate_mask` give the shapes of tables. tests/test_methods.py checks every row.
MIXTURES: Mapping[str, Mixture] = {
    PAPER: SOFTMAX,
    "sigmoid": Mixture(
        _zeros,
        lambda alphas, space, key, controls: MixtureWeights(sigmoid_weights(alphas, space)),
        _sigmoid_strengths,
        sums_to_one=False,
    ),
    "dirichlet": _sampled(_dirichlet, _dirichlet_mean, random_in_evaluation=True),
    "gumbel": _sampled(_gumbel, softmax_weights, init=_around_one, has_temperature=True),
    "gumbel_hard": _sampled(_gumbel_hard, softmax_weights, has_temperature=True),
    "gumbel_chosen": _sampled(_gumbel_chosen, softmax_weights, has_temperature=True, skips_unused=True),
    "reinmax": _sampled(_reinmax, softmax_weights, has_temperature=True),
}


def with_edge_weights(mixture: Mixture) -> Mixture:
    """Adds a factor to each edge: a softmax over the incoming edges of each node (PC-DARTS; Xu et al. 2020, equation 3).

    The alphas are `{'operations': the mixture's alphas, 'edges': {kind: [E]}}`, and the strength of an operation is that of the
    mixture times the factor of its edge.

    Args:
      mixture: gives the weights of operations.
    """

    def init(key: jax.Array, space: Space, dtype: Any) -> Alphas:
        first, second = jax.random.split(key)
        kinds = operations_of(space)
        keys = jax.random.split(second, len(kinds))
        edges = {
            kind: 1e-3 * jax.random.normal(key, (len(operations),), dtype)
            for (kind, operations), key in zip(kinds.items(), keys)
        }
        return {"operations": mixture.init(first, space, dtype), "edges": edges}

    def weights(alphas: Alphas, space: Space, key: jax.Array | None, controls: Controls) -> MixtureWeights:
        of_operations = mixture.weights(alphas["operations"], space, key, controls).operations
        return MixtureWeights(
            of_operations, {kind: edge_weights(alphas["edges"][kind], space) for kind in of_operations}
        )

    def strengths(alphas: Alphas, space: Space) -> dict[str, np.ndarray]:
        tables = mixture.strengths(alphas["operations"], space)
        return {kind: table + _edge_strengths(alphas["edges"][kind], space)[:, None] for kind, table in tables.items()}

    return dataclasses.replace(mixture, init=init, weights=weights, strengths=strengths)


def operation_alphas(alphas: Alphas) -> Alphas:
    """The alphas of operations, with or without edge weights beside them."""
    return alphas["operations"] if isinstance(alphas, Mapping) and "operations" in alphas else alphas


def edge_weights(betas: jax.Array, space: Space) -> jax.Array:
    """The softmax over the incoming edges of each node.

    Args:
      betas: `[E]`.
      space: the search space.

    Returns:
      `[E]`.
    """
    into = same_node(space)
    shifted = jnp.exp(betas - jnp.where(into, betas[None, :], -np.inf).max(axis=-1))
    return shifted / jnp.where(into, shifted[None, :], 0).sum(axis=-1)


def _edge_strengths(betas: Any, space: Space) -> np.ndarray:
    """The logarithms of `edge_weights` in float64, `[E]`; they are finite even where a weight rounds to 0."""
    edges = np.asarray(betas, np.float64)
    rows = np.where(same_node(space), edges[None, :], -np.inf)
    largest = rows.max(axis=-1)
    with np.errstate(invalid="ignore"):
        return edges - largest - np.log(np.exp(rows - largest[:, None]).sum(axis=-1))


def mixture_by_name(name: object, *, edge_weights: object = False, masks: Masks | None = None) -> Mixture:
    """The mixture of a row of `MIXTURES`, with factors of edges or masks of operations if they are wanted.

    `jdarts.methods.random_cells` is no row, since it has no alphas.

    Raises:
      InputError: there is no such mixture.
    """
    if name == RANDOM_CELLS:
        return random_cells()
    of_alphas = mixture_of_alphas(name)
    mixture = of_alphas if masks is None else masked_mixture(of_alphas, masks)
    return with_edge_weights(mixture) if edge_weights else mixture


def mixture_of_alphas(name: object) -> Mixture:
    """The mixture of a row of `MIXTURES`.

    Raises:
      InputError: there is no such mixture.
    """
    if not isinstance(name, str) or name not in MIXTURES:
        raise InputError(f"the mixture is {shown(name)}; give {' or '.join(MIXTURES)}")
    return MIXTURES[name]


def mixture_of(record: Mapping[str, Any]) -> Mixture:
    """The mixture of a checkpoint's record.

    Raises:
      InputError: there is no such mixture.
    """
    return mixture_by_name(
        record.get("mixture", PAPER), edge_weights=record.get("edge_weights", False), masks=record.get("masks")
    )
