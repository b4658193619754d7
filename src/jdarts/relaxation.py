"""The continuous relaxation: what alphas mean, for convolutional and recurrent cells alike (paper section 2.2).

Alphas are any pytree of arrays; DARTS has one table `[E, O]` for each kind of cell: a row for each edge, a column for each of its
candidate operations. A `Mixture` defines how they become weights of the operations, and how operations rank in the derivation.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.errors import InputError
from jdarts.space import ChoiceSpace, RecurrentSpace, SearchSpace

Space = SearchSpace | RecurrentSpace | ChoiceSpace
Alphas = Any

RECURRENT = "recurrent"


class MixtureWeights(NamedTuple):
    """Factors of operations and edges in a search network, by kind of cell.

    Attributes:
      operations: `[E, O]` for all cells of a kind, or `[L, E, O]`, a table for each of its `L` cells in order; 0 in columns
        that an edge's list does not have.
      edges: `[E]` or `[L, E]`, factors of whole edges; None for 1.
    """

    operations: Mapping[str, jax.Array]
    edges: Mapping[str, jax.Array] | None = None

    def of_cell(self, kind: str, number: int) -> "tuple[jax.Array, jax.Array | None]":
        """The factors in one cell.

        Args:
          kind: the kind of cell.
          number: which cell of this kind, from 0.

        Returns:
          `[E, O]`, and `[E]` or None.
        """
        operations = self.operations[kind]
        edges = None if self.edges is None else self.edges[kind]
        return (
            operations[number] if operations.ndim == 3 else operations,
            edges[number] if edges is not None and edges.ndim == 2 else edges,
        )

    def factors(self, kind: str, number: int = 0) -> jax.Array:
        """The factors of the operations in one cell with those of their edges, `[E, O]`; arguments as for `of_cell`."""
        operations, edges = self.of_cell(kind, number)
        return operations if edges is None else operations * edges[:, None]


#: Numbers that change with the epoch, such as a temperature, by name: scalars that a program takes as arguments.
Controls = Mapping[str, Any]

NO_CONTROLS: Controls = MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Mixture:
    """How alphas become weights of an edge's operations.

    Attributes:
      init: `(key, space, dtype) -> alphas` at the start.
      weights: `(alphas, space, key, controls) -> MixtureWeights`, the factors in the search network. For a key of None, a random
        mixture gives the mean of its draws, or what stands for it in its paper.
      strengths: `(alphas, space) -> {kind: [E, O]}` in float64 on the host: how strong each operation of each edge is. Derivation
        compares the operations of an edge, and then the strongest operations of a node's edges.
      random: whether `weights` draws random numbers in training.
      random_in_evaluation: whether it draws them in evaluation too.
      skips_unused: whether an operation of weight 0 counts as not evaluated, so that its running statistics stay.
      has_temperature: whether `weights` reads a temperature from the controls.
      sums_to_one: whether the weights of an edge's operations do.
      has_alphas: whether the alphas act at all; without them no step moves them.
    """

    init: Callable[[jax.Array, Space, Any], Alphas]
    weights: Callable[[Alphas, Space, jax.Array | None, Controls], MixtureWeights]
    strengths: Callable[[Alphas, Space], dict[str, np.ndarray]]
    random: bool = False
    random_in_evaluation: bool = False
    skips_unused: bool = False
    has_temperature: bool = False
    sums_to_one: bool = True
    has_alphas: bool = True


def operations_of(space: Space) -> Mapping[str, tuple[tuple[str, ...], ...]]:
    """The candidate operations of every edge, by kind of cell or name of choice."""
    if isinstance(space, RecurrentSpace):
        return {RECURRENT: space.recurrent}
    if isinstance(space, ChoiceSpace):
        return dict(space.tables)
    return {kind: space.operations(kind) for kind in space.kinds}


def edges_of(space: Space) -> tuple[tuple[int, int], ...]:
    """The edges between states, `(source, target)`, in the order of the rows of the tables.

    Raises:
      InputError: a space of choices, which has none.
    """
    if isinstance(space, ChoiceSpace):
        raise InputError("edge weights need nodes with edges; choices have none")
    return tuple(space.edges)


def same_node(space: Space) -> np.ndarray:
    """Whether two edges lead into one node, bool `[E, E]`.

    Raises:
      InputError: a space of choices, which has no edges.
    """
    targets = np.array([target for _, target in edges_of(space)])
    return targets[:, None] == targets[None, :]


def init_alphas(key: jax.Array, space: Space, dtype: Any = jnp.float32) -> Alphas:
    """Alphas at the start: `1e-3 · N(0, 1)`, as in the reference implementation.

    Returns:
      `{'normal': [E, O], 'reduce': [E, O]}`, or the one of the two that the space has; a table for each choice of a
      `ChoiceSpace`; or `[E, O]` for a recurrent space. Where an edge's list is shorter than `O`, its last columns are not used.
    """

    def table(key: jax.Array, operations: tuple[tuple[str, ...], ...]) -> jax.Array:
        return 1e-3 * jax.random.normal(key, (len(operations), max(map(len, operations))), dtype)

    if isinstance(space, RecurrentSpace):
        return table(key, space.recurrent)
    kinds = operations_of(space)
    keys = jax.random.split(key, len(kinds))
    return {kind: table(k, operations) for (kind, operations), k in zip(kinds.items(), keys)}


def alpha_tables(alphas: Alphas, space: Space) -> dict[str, Any]:
    """The tables of alphas by kind of cell; a recurrent cell may have its table without a dictionary.

    Raises:
      InputError: a table is missing or of another shape.
    """
    by_kind = alphas if isinstance(alphas, Mapping) else {RECURRENT: alphas}
    for kind, operations in operations_of(space).items():
        expected = (len(operations), max(map(len, operations)))
        shape = np.shape(by_kind[kind]) if kind in by_kind else "none"
        if shape != expected:
            raise InputError(f"the alphas of the {kind} cell have shape {shape}; this space needs {expected}")
    return {kind: by_kind[kind] for kind in operations_of(space)}


def candidate_mask(operations: tuple[tuple[str, ...], ...]) -> np.ndarray:
    """Whether a column of a table stands for a candidate of the edge: bool `[E, O]`; shorter lists leave columns unused."""
    lengths = np.array([len(names) for names in operations])
    return np.arange(lengths.max())[None, :] < lengths[:, None]


def map_tables(function: Callable[..., Any], alphas: Alphas, space: Space) -> dict[str, Any]:
    """Applies a function to the table of each kind of cell and the mask of its candidates: `function(table, mask)`.

    Args:
      function: of a table `[E, O]` and of `candidate_mask`, bool `[E, O]`.
      alphas: tables, as `init_alphas` makes them.
      space: the search space.

    Raises:
      InputError: a table is missing or of another shape.
    """
    operations = operations_of(space)
    return {
        kind: function(table, candidate_mask(operations[kind])) for kind, table in alpha_tables(alphas, space).items()
    }


def softmax_weights(alphas: Alphas, space: Space) -> dict[str, jax.Array]:
    """Softmax of the alphas over the operations of each edge, `none` among them (paper equation 2).

    Args:
      alphas: tables, as `init_alphas` makes them.
      space: the search space.

    Returns:
      `{kind: [E, O]}`, 0 in columns that an edge's list does not have.

    Raises:
      InputError: alphas of another shape.
    """
    return map_tables(lambda table, mask: jax.nn.softmax(table, axis=-1, where=mask), alphas, space)


def softmax_strengths(alphas: Alphas, space: Space) -> dict[str, np.ndarray]:
    """The logarithms of the softmax weights, in float64.

    They rank as the weights do, and differ even where two weights round to 0.

    Raises:
      InputError: alphas of another shape.
    """

    def log_weights(table: Any, mask: np.ndarray) -> np.ndarray:
        rows = np.where(mask, np.asarray(table, np.float64), -np.inf)
        with np.errstate(invalid="ignore"):
            rows = rows - rows.max(axis=-1, keepdims=True)
            return rows - np.log(np.exp(rows).sum(axis=-1, keepdims=True))

    return map_tables(log_weights, alphas, space)


#: The paper's mixture.
SOFTMAX = Mixture(
    init_alphas, lambda alphas, space, key, controls: MixtureWeights(softmax_weights(alphas, space)), softmax_strengths
)


def _given_weights(alphas: Alphas, space: Space, key: jax.Array | None, controls: Controls) -> MixtureWeights:
    del space, key, controls
    return alphas if isinstance(alphas, MixtureWeights) else MixtureWeights(alphas)


def _given_strengths(alphas: Alphas, space: Space) -> dict[str, np.ndarray]:
    weights = _given_weights(alphas, space, None, NO_CONTROLS)
    return {kind: np.asarray(table, np.float64) for kind, table in weights.operations.items()}


def _uniform(key: jax.Array, space: Space, dtype: Any) -> MixtureWeights:
    del key
    masks = {kind: candidate_mask(operations) for kind, operations in operations_of(space).items()}
    return MixtureWeights(
        {kind: jnp.asarray(mask / mask.sum(axis=-1, keepdims=True), dtype) for kind, mask in masks.items()}
    )


#: The alphas are `MixtureWeights`, or the tables of operations alone: for a perturbed, a one-hot or a fixed mixture.
GIVEN = Mixture(_uniform, _given_weights, _given_strengths)


def mixture_entropies(weights: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Mean entropy of the edges' mixture weights `{kind: [E, O]}`, in nats, by kind of cell."""

    def entropy(weights: jax.Array) -> jax.Array:
        logs = jnp.log(jnp.where(weights > 0, weights, jnp.ones_like(weights)))
        return -jnp.mean(jnp.sum(weights * logs, axis=-1))

    return {kind: entropy(table) for kind, table in weights.items()}


def mean_entropy(entropies: Mapping[str, jax.Array]) -> jax.Array:
    """The mean over the kinds of cells."""
    return functools.reduce(jnp.add, entropies.values()) / len(entropies)


def host_weights(mixture: Mixture, alphas: Alphas, space: Space) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The mean weights of a mixture on the host in float64, the mean over cells that have separate ones.

    Returns:
      Factors of the operations, `{kind: [E, O]}`, and of whole edges, `{kind: [E]}`; no edges where the mixture has no such
      factors.
    """

    def mean(table: Any, axes: int) -> np.ndarray:
        values = np.asarray(table, np.float64)
        return values.mean(axis=0) if values.ndim > axes else values

    found = mixture.weights(alphas_on_host(alphas), space, None, NO_CONTROLS)
    return (
        {kind: mean(table, 2) for kind, table in found.operations.items()},
        {kind: mean(factors, 1) for kind, factors in (found.edges or {}).items()},
    )


def alphas_on_host(alphas: Alphas) -> Alphas:
    """Alphas as arrays of NumPy; whole numbers become floats, which every mixture takes."""

    def on_host(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf)
        return array.astype(np.float64) if array.dtype.kind in "biu" else array

    return jax.tree.map(on_host, alphas)


def alphas_to_json(alphas: Alphas) -> Any:
    """Alphas as JSON data: nested lists for an array, an object by name for a dictionary of them."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), alphas)


def alphas_from_json(content: Any, dtype: Any = np.float64, *, name: str = RECURRENT) -> Alphas:
    """Alphas from the JSON data that `alphas_to_json` makes: arrays, in the same dictionaries.

    Args:
      content: the data.
      dtype: of the arrays.
      name: the kind of cell in messages.

    Raises:
      InputError: a part is not a table of numbers.
    """
    if isinstance(content, Mapping) and content:
        return {name: alphas_from_json(part, dtype, name=name) for name, part in content.items()}
    try:
        values = np.asarray(content)
    except (ValueError, TypeError, OverflowError):
        values = np.asarray(None)
    if not isinstance(content, list) or values.dtype.kind not in "iuf":
        raise InputError(f"the alphas of the {name} cell are not a table of numbers; use another checkpoint")
    return values.astype(dtype)
